import { app, type HttpResponseInit } from '@azure/functions';

/** The page and its headers, which the build puts here. */
declare const dashboardAnswer: HttpResponseInit;

app.http('dashboard', {
  methods: ['GET'],
  authLevel: 'anonymous',
  route: 'dashboard',
  handler: async () => ({ status: 200, ...dashboardAnswer }),
});
