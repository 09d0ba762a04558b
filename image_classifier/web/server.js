// Where the answers come from: the server that serves this page. `device.js` has the same functions, and the page imports either as backend.js.

import {Problem} from './problem.js';

export const GROUP = {files: 32, bytes: 8 * 2 ** 20};  // of one request
let apiKey = '';  // in memory only

export const setKey = key => { apiKey = key; };
export const busyText = name => `Classifying ${name} …`;
export const originOf = answer => `Model ${answer.model_version}, request ${answer.request_id}`;
export const predict = (pick, signal) => send('predict', 'file', [pick], signal);
export const predictSeveral = async (picks, signal) => (await send('predict_batch', 'files', picks, signal)).results;
export const classNames = async signal => (await ask('classes', signal)).classes;
export const explain = (pick, signal) => send('predict?explain=true', 'file', [pick], signal);

// Retry-After holds seconds or a date.
function secondsToWait(header) {
  const seconds = /^\d+$/.test(header) ? Number(header) : (Date.parse(header) - Date.now()) / 1000;
  return seconds > 0 ? Math.ceil(seconds) : 0;
}

async function ask(path, signal, body) {
  let response, answer;
  try {
    response = await fetch(path, {method: body ? 'POST' : 'GET', body, signal, headers: apiKey ? {'x-api-key': apiKey} : {}});
    answer = await response.json().catch(() => null);  // a proxy may answer with a page of its own
  } catch {
    signal.throwIfAborted();
    throw new Problem('The server does not answer.', 'Check the connection, then try again.', {again: true});
  }
  signal.throwIfAborted();
  if (response.ok && answer) return answer;
  const {status} = response, title = answer?.title ?? (status < 400 ? 'The answer cannot be read' : `Error ${status}`);
  const trace = status === 500 && answer?.request_id ? ` (request ${answer.request_id})` : '';
  throw new Problem(`${title}.`, `${answer?.detail ?? ''}${trace}`, {
    status, again: status < 400 || status >= 500 || status === 429, seconds: secondsToWait(response.headers.get('retry-after'))});
}

function send(path, field, picks, signal) {
  const form = new FormData();
  for (const {file, name} of picks) form.append(field, file, name);
  return ask(path, signal, form);
}
