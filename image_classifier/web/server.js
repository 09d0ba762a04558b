// Where the answers come from: the server that serves this page. `device.js` has the same functions, and the page imports either as backend.js.

import {Problem} from './problem.js';

export const GROUP = {files: 32, bytes: 8 * 2 ** 20};  // of one request
const REFUSED = [413, 415, 422];  // statuses that are about the image
const inMegabytes = bytes => `${Math.ceil(bytes / 1e5) / 10} MB`;
let apiKey = '';  // in memory only

export const setKey = key => { apiKey = key; };
export const busyText = name => `Classifying ${name} …`;
export const originOf = answer => `Model ${answer.model_version}, request ${answer.request_id}`;
export const predict = (pick, signal) => send('predict', 'file', [pick], signal);
export const classNames = async signal => (await ask('classes', signal)).classes;
export const explain = (pick, signal) => send('predict?explain=true', 'file', [pick], signal);

// Retry-After holds seconds or a date.
function secondsToWait(header) {
  const seconds = /^\d+$/.test(header) ? Number(header) : (Date.parse(header) - Date.now()) / 1000;
  return seconds > 0 ? Math.ceil(seconds) : 0;
}

// What an answer with this status means to a person.
function titleOf(status, hasKey) {
  if (status === 401) return hasKey ? 'That key was not accepted.' : 'This server needs a key.';
  if (REFUSED.includes(status)) return 'The image cannot be classified.';
  if (status === 500) return 'The server failed.';
  if (status === 429 || status > 500) return 'The server cannot answer now.';
  return status < 400 ? 'The answer cannot be read.' : 'The server refuses the request.';
}

// What is wrong with an image of `size` bytes, as device.js says it.
function reasonOf(detail, size) {
  const limit = /^limit is (\d+) bytes(?:.*, (\d+) for an image)?/.exec(detail);
  if (limit) return `too large: ${inMegabytes(size)}, at most ${inMegabytes(limit[2] ?? limit[1])}`;
  return detail.replace(/^(.+) exceeds the classifier's limit of /, 'too large: $1, at most ').replace(/\. (?=[a-z])/g, '; ');
}

async function ask(path, signal, body, size = 0) {
  let response, answer;
  const headers = apiKey ? {'x-api-key': apiKey} : {};
  try {
    response = await fetch(path, {method: body ? 'POST' : 'GET', body, signal, headers});
    answer = await response.json().catch(() => null);  // a proxy may answer with a page of its own
  } catch {
    signal.throwIfAborted();
    throw new Problem('The server does not answer.', 'Check the connection, then try again.', {again: true});
  }
  signal.throwIfAborted();
  if (response.ok && answer) return answer;
  const {status} = response, trace = status === 500 && answer?.request_id ? ` (request ${answer.request_id})` : '';
  let detail = `${answer?.detail ?? ''}${trace}`;
  if (status === 401) detail = '';  // it says how programs send the key
  if (REFUSED.includes(status)) detail = reasonOf(detail || (status === 413 ? `too large: ${inMegabytes(size)}` : ''), size);
  throw new Problem(titleOf(status, 'x-api-key' in headers), detail, {
    status, again: status < 400 || status >= 500 || status === 429, seconds: secondsToWait(response.headers.get('retry-after'))});
}

function send(path, field, picks, signal) {
  const form = new FormData();
  for (const {file, name} of picks) form.append(field, file, name);
  return ask(path, signal, form, picks.reduce((sum, {file}) => sum + file.size, 0));
}

export async function predictSeveral(picks, signal) {
  const {results} = await send('predict_batch', 'files', picks, signal);
  return results?.map((one, i) => (one.error ? {...one, error: reasonOf(one.error, picks[i]?.file.size)} : one));
}
