/**
 * Preloaded (`--import`) by every child process that the tests start: it ends with the process that started it,
 * however that one ended.
 */
process.once('disconnect', () => process.exit(1));
