/** Loads the function app named in the arguments as the worker does, and prints the milliseconds that this took. */
import Module, { createRequire, flushCompileCache } from 'node:module';
import { pathToFileURL } from 'node:url';

const nothing = () => undefined;

/** What the worker answers to `require('@azure/functions-core')`, as far as a start asks for it. */
const core = {
  version: '3.14.1',
  hostVersion: '4.1049.0',
  Disposable: class {},
  registerFunction: nothing,
  registerHook: nothing,
  setProgrammingModel: nothing,
  getProgrammingModel: nothing,
  log: nothing,
};

Module.prototype.require = new Proxy(Module.prototype.require, {
  apply: (target, self, values) =>
    values[0] === '@azure/functions-core' ? core : Reflect.apply(target, self, values),
});

const [, , file = ''] = process.argv;
const begun = performance.now();
if (file.endsWith('.cjs')) createRequire(file)(file);
else await import(pathToFileURL(file).href);
console.log(performance.now() - begun);
flushCompileCache();
process.exit();
