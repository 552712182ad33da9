/** From words to an exit status: reads the files, asks the engine, prints the answer. */
import type { Rules } from '../config/model.ts';
import { HubferryError } from '../errors.ts';
import type { AnyReport, Report, SyncOutcome } from '../sync/runs/report.ts';
import {
  type Command,
  parseArguments,
  type RunCommand,
  type SuccessOptions,
  wantsJson,
} from './arguments.ts';
import { convertFiles } from './convert.ts';
import {
  type Document,
  errorDocument,
  findingsDocument,
  formatDocument,
  reportDocument,
  runsDocument,
} from './documents.ts';
import type { Engine, OpenEngine } from './engine.ts';
import { exitCodeOfError, exitCodeOfPlan, exitCodeOfSync, exitCodeOfVerify } from './exit-code.ts';
import { exitCodeOfDoctor, renderFindings } from './findings.ts';
import { paintFor } from './format.ts';
import { helpText } from './help.ts';
import { interruptedExitCode } from './interrupt.ts';
import { renderError, renderReport, type View } from './output.ts';
import { loadRules, noRules } from './rules.ts';
import { type Io, openSession, type Session } from './session.ts';
import { stateLocation } from './state.ts';
import { renderRun, renderRuns } from './status.ts';
import { checkSuccessFile, writeSuccessFile } from './success-file.ts';

/** Runs a command line and tells the exit status; it does not throw. */
export async function runCommandLine(
  argv: readonly string[],
  io: Io,
  openEngine: OpenEngine,
): Promise<number> {
  try {
    return await runCommand(parseArguments(argv), io, openEngine);
  } catch (error) {
    io.stderr.write(renderError(error, paintFor(io.stderr, io.env)));
    answerAtOnce(argv, error, io);
    return exitCodeOfError(error);
  }
}

/** Runs one command and prints its answer. @throws ERR_USAGE for a log that cannot be opened */
export async function runCommand(command: Command, io: Io, openEngine: OpenEngine): Promise<number> {
  const answer = await answerOf(command, io, openEngine);
  const json = 'output' in command ? command.output.json : command.json;
  if (json) writeDocument(answer.document(), io);
  else io.stdout.write(answer.text(viewOf(io)));
  return io.signal.aborted ? interruptedExitCode : answer.exitCode;
}

/** For who waits for no answer: a document is promised on every exit. */
export function answerAtOnce(argv: readonly string[], reason: unknown, io: Pick<Io, 'stdout'>): void {
  if (wantsJson(argv)) writeDocument(errorDocument(reason), io);
}

function writeDocument(document: Document, { stdout }: Pick<Io, 'stdout'>): void {
  for (const piece of formatDocument(document)) stdout.write(piece);
}

/** What standard output gets, as a document or for people. */
interface Answer {
  readonly document: () => Document;
  readonly text: (view: View) => string;
  readonly exitCode: number;
}

/** A person is spared most of 10,000 lines; a file or another program gets them all. */
function viewOf({ stdout, env }: Io): View {
  const most = stdout.isTTY === true ? 100 : Number.POSITIVE_INFINITY;
  return { paint: paintFor(stdout, env), most };
}

type SessionCommand = Exclude<Command, { command: 'help' | 'version' }>;
type EngineCommand = Exclude<SessionCommand, { command: 'convert' }>;

async function answerOf(command: Command, io: Io, openEngine: OpenEngine): Promise<Answer> {
  switch (command.command) {
    case 'help': {
      const help = helpText(command.topic);
      return { document: () => ({ help }), text: () => help, exitCode: 0 };
    }
    case 'version':
      return { document: () => ({ version: io.version }), text: () => `${io.version}\n`, exitCode: 0 };
    case 'convert':
      return inSession(command, io, async () => {
        const { text, document } = await convertFiles(command, io.env);
        return { document: () => document, text: () => text, exitCode: 0 };
      });
    default:
      return inSession(command, io, (session) => askEngine(command, io, openEngine, session));
  }
}

/** The session is over before the answer is printed: the progress view is gone from the terminal then. */
async function inSession(
  command: SessionCommand,
  io: Io,
  work: (session: Session) => Promise<Answer>,
): Promise<Answer> {
  const session = openSession(command.output, io, 'compare' in command);
  try {
    return await work(session);
  } catch (thrown) {
    // What an interrupt breaks off fails in many ways: the interrupt is the reason to tell.
    const error: unknown = io.signal.aborted ? io.signal.reason : thrown;
    session.fail(error);
    return { document: () => errorDocument(error), text: () => '', exitCode: exitCodeOfError(error) };
  } finally {
    session.close();
  }
}

async function askEngine(
  command: EngineCommand,
  io: Io,
  openEngine: OpenEngine,
  session: Session,
): Promise<Answer> {
  const { env, signal } = io;
  const state = stateLocation(command.state, env);
  const rules = command.command === 'status' ? noRules : await loadRules(command.rules, env);
  if ('success' in command && command.success !== undefined) await checkSuccessFile(command.success);
  const { onEvent } = session;
  if ('compare' in command && rules.rules.length === 0) onEvent(thereIsNoRule);
  const engine = await openEngine({ rules, state, options: command.engine, env, onEvent, signal });
  try {
    switch (command.command) {
      case 'status':
        return await askStatus(engine, command.run);
      case 'doctor':
        return await askDoctor(engine);
      default:
        return await askReport(engine, command, rules, session);
    }
  } finally {
    await engine.close();
  }
}

/** It is no failure, but seldom what was meant. */
const thereIsNoRule = { type: 'log', level: 'warn', message: 'there is no rule', fields: {} } as const;

async function askReport(
  engine: Engine,
  command: RunCommand,
  rules: Rules,
  session: Session,
): Promise<Answer> {
  const { compare, exitCode, success } = command;
  switch (command.command) {
    case 'plan': {
      const report = await engine.plan(compare);
      return reportAnswer(report, exitCodeOfPlan(report, exitCode));
    }
    case 'sync': {
      const report = await engine.sync(compare);
      const isWritten = success === undefined || (await isSuccessWritten(report, success, session));
      return reportAnswer(report, Math.max(exitCodeOfSync(report), isWritten ? 0 : 1));
    }
    case 'verify': {
      const report = await engine.verify(compare);
      const pruning = new Set(rules.rules.filter(({ prune }) => prune).map(({ name }) => name));
      return reportAnswer(
        report,
        exitCodeOfVerify(report, (rule) => pruning.has(rule)),
      );
    }
  }
}

/** What was done is told, also where its file cannot be written. */
async function isSuccessWritten(
  report: Report<SyncOutcome>,
  success: SuccessOptions,
  session: Session,
): Promise<boolean> {
  try {
    await writeSuccessFile(report, success);
    return true;
  } catch (error) {
    session.fail(error);
    return false;
  }
}

function reportAnswer(report: AnyReport, exitCode: number): Answer {
  return { document: () => reportDocument(report), text: (view) => renderReport(report, view), exitCode };
}

async function askStatus(engine: Engine, id: string | undefined): Promise<Answer> {
  if (id === undefined) {
    const runs = await engine.runs();
    return { document: () => runsDocument(runs), text: (view) => renderRuns(runs, view), exitCode: 0 };
  }
  const report = await engine.run(id);
  if (report === undefined) throw new HubferryError('ERR_RUN_UNKNOWN', `There is no run ${id}.`);
  return { document: () => reportDocument(report), text: (view) => renderRun(report, view), exitCode: 0 };
}

async function askDoctor(engine: Engine): Promise<Answer> {
  const findings = await engine.doctor();
  return {
    document: () => findingsDocument(findings),
    text: ({ paint }) => renderFindings(findings, paint),
    exitCode: exitCodeOfDoctor(findings),
  };
}
