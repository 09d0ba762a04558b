// Where the answers come from: this device. ONNX Runtime Web runs the network in the page; no image leaves it. `server.js` has the same
// functions, and the page imports either as backend.js.

import {checkBytes, ImageError, pixelsOf} from './pixels.js';
import {Problem} from './problem.js';

export const GROUP = {files: 1, bytes: Infinity};
export const explain = null;  // a heat map needs the gradients of the network, which its file does not hold
export const setKey = () => {};
export const originOf = answer => `Model ${answer.model_version}, computed on this device in ${answer.milliseconds} ms`;

let loading = null, loaded = false, bytes = 0;
const inMegabytes = () => (bytes ? `, ${(bytes / 1e6).toFixed(0)} MB the first time` : '');
export const busyText = name => (loaded ? `Classifying ${name} …` : `Loading the model${inMegabytes()}, then classifying ${name} …`);


// The model: `about` is web.json; `session` of ONNX Runtime; `detector` or null

async function get(name, read) {
  let response;
  try {
    response = await fetch(name);
    if (response.ok) return await response[read]();
  } catch (problem) {
    if (response?.ok) throw new Problem('The model cannot be loaded.', `${name} cannot be read: ${problem.message}`, {again: true});
  }
  const why = response ? 'the host does not send it' : location.protocol === 'file:' ? 'open this page through a web server, not as a file' : 'no answer';
  throw new Problem('The model cannot be loaded.', `${name.split('?')[0]}: ${why}.`, {again: true});
}

let asked = null;

function facts() {
  asked ??= get('web.json', 'json').catch(problem => {
    asked = null;
    throw problem;
  });
  return asked;
}

async function start() {
  const about = await facts(), version = about.source.slice(0, 8);
  bytes = about.bytes;
  const [data, detector, ort] = await Promise.all([
    get(`model.onnx?${version}`, 'arrayBuffer'), about.ood && get(`ood.safetensors?${version}`, 'arrayBuffer'), import('./ort.js')]);
  const [mjs, wasm] = ['ort-glue.js', 'ort.wasm'].map(name => new URL(name, import.meta.url).href);
  Object.assign(ort.env.wasm, {numThreads: 1, wasmPaths: {mjs, wasm}});
  const session = await ort.InferenceSession.create(data, {executionProviders: ['wasm']});
  loaded = true;
  return {about, session, ort, version, detector: detector && readDetector(detector, about.ood.threshold), honest: await canReadPixels()};
}

function model() {
  loading ??= start().catch(problem => {
    loading = asked = null;  // the host may hold a newer model by then
    throw problem instanceof Problem ? problem : new Problem('The model cannot be loaded.', String(problem.message ?? problem), {again: true});
  });
  return loading;
}

model().catch(() => {});  // begins with the page; a failure is shown when an answer is asked for

export const classNames = async () => (await facts()).classes;


// Images that are unlike the training images: the distance of the whitened features from the nearest class

function readDetector(file, threshold) {
  const length = Number(new DataView(file).getBigUint64(0, true)), header = JSON.parse(new TextDecoder().decode(new Uint8Array(file, 8, length)));
  const array = name => {
    const [first, end] = header[name].data_offsets;
    return new Float32Array(file.slice(8 + length + first, 8 + length + end));
  };
  return {whitening: array('whitening'), centers: array('centers'), width: header.centers.shape[1], threshold};
}

function isUnlike({whitening, centers, width, threshold}, features) {
  const norm = Math.max(Math.sqrt(features.reduce((sum, value) => sum + value * value, 0)), 1e-12), white = new Float64Array(width);
  for (let i = 0, at = 0; i < width; i++) {  // the lower triangle, row by row
    for (let j = 0; j <= i; j++) white[i] += whitening[at++] * features[j] / norm;
  }
  let nearest = Infinity;
  for (let start = 0; start < centers.length; start += width) {
    let square = 0;
    for (let i = 0; i < width; i++) square += (white[i] - centers[start + i]) ** 2;
    nearest = Math.min(nearest, square);
  }
  return !(Math.sqrt(nearest / width) <= threshold);
}


// Decoding by the browser, read back in strips, because some browsers have small canvases

const STRIP = 2 ** 22;  // pixels

async function decodeInBrowser(parts, type, width, height) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(new Blob(parts, {type}), {colorSpaceConversion: 'none', premultiplyAlpha: 'none'});
  } catch {
    throw new ImageError('damaged data, or a variant that this browser does not read');
  }
  try {
    if (bitmap.width !== width || bitmap.height !== height) throw new ImageError('damaged data');
    const pixels = new Uint8Array(4 * width * height), rows = Math.max(1, Math.min(height, Math.floor(STRIP / width)));
    const context = contextOf(width, rows);
    for (let top = 0; top < height; top += rows) {
      const some = Math.min(rows, height - top);
      context.globalCompositeOperation = 'copy';
      context.drawImage(bitmap, 0, top, width, some, 0, 0, width, some);
      pixels.set(context.getImageData(0, 0, width, some).data, 4 * width * top);
    }
    return pixels;
  } finally {
    bitmap.close();
  }
}

function contextOf(width, height) {
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext('2d', {willReadFrequently: true, colorSpace: 'srgb'});
  context.imageSmoothingEnabled = false;
  return context;
}

// Some browsers change the pixels that a page reads, so that it cannot recognize the device.
async function canReadPixels() {
  const context = contextOf(64, 64), image = context.createImageData(64, 64), {data} = image;
  for (let i = 0; i < data.length; i++) data[i] = i % 4 === 3 ? 255 : (i * 37) % 256;
  context.putImageData(image, 0, 0);
  const bitmap = await createImageBitmap(image, {colorSpaceConversion: 'none'});
  context.globalCompositeOperation = 'copy';
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, 64, 64).data.every((value, i) => value === data[i]);
}


// Answers

let queue = Promise.resolve();  // the runtime computes one image at a time

export async function readPixels(file) {
  const {preprocess} = (await model()).about;
  checkBytes(file.size, preprocess.limits);
  return pixelsOf(new Uint8Array(await file.arrayBuffer()), preprocess, decodeInBrowser);
}

async function answer(file, signal) {
  const {about, session, ort, detector, version, honest} = await model(), {preprocess, classes, threshold} = about, begin = performance.now();
  const pixels = await readPixels(file);
  signal.throwIfAborted();
  const input = new ort.Tensor('uint8', pixels, [1, preprocess.channels, preprocess.size, preprocess.size]);
  const run = queue.then(() => session.run({pixels: input}));
  queue = run.catch(() => {});
  const {probabilities, features} = await run, row = probabilities.data;
  signal.throwIfAborted();
  if (row.length !== classes.length || !row.every(Number.isFinite)) throw new Problem('The model answers with no probabilities.', 'Export it again.');
  const order = classes.map((_, i) => i).sort((a, b) => row[b] - row[a]);  // stable: of equal ones, the first class wins
  return {
    predicted_class: classes[order[0]], confidence: row[order[0]], all_probabilities: order.map(i => ({class: classes[i], probability: row[i]})),
    ...(threshold != null && {below_threshold: row[order[0]] < threshold}), ...(detector && {out_of_distribution: isUnlike(detector, features.data)}),
    warnings: honest ? [] : ['This browser changes the pixels that a page reads, so the answer may differ from that of the classifier.'],
    model_version: version, milliseconds: Math.round(performance.now() - begin)};
}

export async function predict({file}, signal) {
  try {
    return await answer(file, signal);
  } catch (problem) {
    throw problem instanceof ImageError ? new Problem('The image cannot be classified.', problem.message) : problem;
  }
}

export async function predictSeveral(picks, signal) {
  const results = [];
  for (const {file} of picks) {
    results.push(await answer(file, signal).catch(problem => {
      if (!(problem instanceof ImageError)) throw problem;
      return {error: problem.message};
    }));
    await new Promise(done => setTimeout(done));  // the page shows the row
  }
  return results;
}
