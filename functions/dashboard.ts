import { app } from '@azure/functions';
import { dashboardHeaders, dashboardPage } from '../lib/dashboard.ts';

app.http('dashboard', {
  methods: ['GET'],
  authLevel: 'anonymous',
  route: 'dashboard',
  handler: async () => ({ status: 200, headers: dashboardHeaders, body: dashboardPage }),
});
