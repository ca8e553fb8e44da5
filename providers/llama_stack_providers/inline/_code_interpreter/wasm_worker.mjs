// What runs inside Deno: Python in WebAssembly, with one set of variables. It speaks like worker.py.
//
// Arguments: URL of the folder with Pyodide, text of worker.py, its orders as JSON.
const [pyodideUrl, workerText, ordersText] = Deno.args;
const encoder = new TextEncoder();
const standardOutput = Deno.stdout;
const standardInput = Deno.stdin.readable;

function base64(bytes) {
  let text = "";
  for (let at = 0; at < bytes.length; at += 8192) {
    text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  }
  return btoa(text);
}

let nonce = "";

function tell(type, fields) {
  let rest = encoder.encode(JSON.stringify({ type, nonce, ...fields }) + "\n");
  while (rest.length) rest = rest.subarray(standardOutput.writeSync(rest));
}

function stream(name) {
  const write = (bytes) => {
    tell("output", { stream: name, text: base64(bytes) });
    return bytes.length;
  };
  return { write, isatty: false };
}

async function* lines(readable) {
  let unfinished = "";
  for await (const text of readable.pipeThrough(new TextDecoderStream())) {
    const parts = (unfinished + text).split("\n");
    unfinished = parts.pop();
    yield* parts;
  }
}

const { loadPyodide } = await import(new URL("pyodide.mjs", pyodideUrl));
const pyodide = await loadPyodide({ indexURL: decodeURIComponent(new URL(pyodideUrl).pathname), jsglobals: {} });
pyodide.setStdin({ error: true });
pyodide.setStdout(stream("stdout"));
pyodide.setStderr(stream("stderr"));
pyodide.globals.set("worker_text", workerText);
pyodide.globals.set("orders_text", ordersText);
const perform = pyodide.runPython(`
import json, sys, types
worker = types.ModuleType("worker")
exec(compile(worker_text, "worker.py", "exec"), worker.__dict__)
worker.perform_alone(json.loads(orders_text))
`);
const quiet = { messageCallback: () => {}, errorCallback: () => {}, checkIntegrity: true };
tell("ready", { python: pyodide.runPython("import sys; sys.version.split()[0]"), uid: -1 });

for await (const line of lines(standardInput)) {
  const request = JSON.parse(line);
  nonce = request.nonce;
  delete request.nonce;
  try {
    await pyodide.loadPackagesFromImports(request.code, quiet);
  } catch {
    // not among the packages of the folder: Python says so at the import
  }
  tell("done", { reply: perform(JSON.stringify(request)) });
}
