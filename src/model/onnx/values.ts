/**
 * Values of a graph in a run. A value lies on the host (whole numbers, shapes, short lists, texts) or on the GPU. Sequences and
 * optional values hold others.
 */
import * as ops from '../../autograd/ops/index.ts';
import { GlimpseError } from '../../errors.ts';
import { sizeOf } from '../../tensor/shape.ts';
import type { Tensor } from '../../tensor/tensor.ts';
import { claimOf, ELEMENT_TYPES, type ElementType, elementType, MAX_ELEMENTS } from './elements.ts';

/** Longest list of floats that stays on the host, where nodes may compute with it at once. */
export const SHORT = 1024;

/** Numbers on the host. Doubles are Float64Array; all other floats are float32 here, and lie in a Float32Array. */
export type Numbers = Float32Array | Float64Array | Int8Array | Uint8Array | number[];

/** A tensor on the host: numbers, whole numbers, or truth values as 0 and 1. */
export interface HostTensor {
  kind: 'float' | 'int';
  shape: number[];
  data: Numbers;
  /** The element type's name in ONNX: how whole numbers wrap round, and floats are rounded. Without it int64, or float. */
  type?: string;
}

/** Texts, one an element. */
export interface HostText {
  kind: 'text';
  shape: number[];
  data: string[];
}

/** A tensor on the GPU. */
export interface Device {
  tensor: Tensor;
  /** Its element type in the graph; float if it is left out. Truth values, and whole numbers that f32 holds, are f32; indices are u32. */
  type?: string;
}

/** Tensors in a row, of one element type. */
export interface Sequence {
  kind: 'sequence';
  elements: readonly Value[];
}

/** A value, or none. */
export interface Optional {
  kind: 'optional';
  value: Value | null;
}

export type Value = Device | HostTensor | HostText | Sequence | Optional;

export const isDevice = (value: Value): value is Device => 'tensor' in value;
/** Whether a value is numbers on the host. */
export const isHost = (value: Value): value is HostTensor => !isDevice(value) && (value.kind === 'float' || value.kind === 'int');

/** The element type of numbers. */
export function typeOf(value: HostTensor | Device): ElementType {
  const otherwise = isDevice(value) || value.kind === 'float' ? 'float' : 'int64';
  return elementType(value.type ?? otherwise) ?? ELEMENT_TYPES[7];
}

/** What a message calls the elements of a value. */
export const typeName = (value: Value): string => (isDevice(value) || isHost(value) ? typeOf(value).name : value.kind === 'text' ? 'string' : value.kind);

/** The shape of a value. Throws a GlimpseError for a sequence, or for an optional value. */
export function shapeOfValue(value: Value): readonly number[] {
  if (isDevice(value)) return value.tensor.shape;
  if (value.kind === 'sequence' || value.kind === 'optional')
    throw new GlimpseError(`a tensor is expected, not ${value.kind === 'sequence' ? 'a sequence' : 'an optional value'}`);
  return value.shape;
}

/** How many numbers a value holds. A character of a text counts as one. */
export function sizeOfValue(value: Value): number {
  if (isDevice(value)) return value.tensor.size;
  if (value.kind === 'sequence') return value.elements.reduce((sum, each) => sum + sizeOfValue(each), 0);
  if (value.kind === 'optional') return value.value ? sizeOfValue(value.value) : 0;
  if (value.kind === 'text') return value.data.reduce((sum, each) => sum + each.length, value.data.length);
  return value.data.length;
}

/** Throws a GlimpseError for extents beyond what a tensor may have, also beside an extent of 0. */
export function checkExtents(value: Value): void {
  if (!isDevice(value) && value.kind === 'sequence') value.elements.forEach(checkExtents);
  else if (!isDevice(value) && value.kind === 'optional') {
    if (value.value) checkExtents(value.value);
  } else if (!(claimOf(shapeOfValue(value)) <= MAX_ELEMENTS))
    throw new GlimpseError(`[${shapeOfValue(value)}] has more than ${MAX_ELEMENTS} elements, its extents of 0 aside`);
}

/** The tensors on the GPU that a value holds. */
export function tensorsOf(value: Value): Tensor[] {
  if (isDevice(value)) return [value.tensor];
  if (value.kind === 'sequence') return value.elements.flatMap(tensorsOf);
  if (value.kind === 'optional') return value.value ? tensorsOf(value.value) : [];
  return [];
}

/** Disposes the tensors of a value that nobody reads any more, but for those that a gradient may need. */
export function drop(value: Value): void {
  for (const each of tensorsOf(value)) if (!each.attachment) each.dispose();
}

/** The same value with tensors of its own on the same storage, because each value's tensors are disposed on their own. */
export function shared(value: Value): Value {
  if (isDevice(value)) return { ...value, tensor: ops.reshape(value.tensor, value.tensor.shape) };
  if (value.kind === 'sequence') return { ...value, elements: value.elements.map(shared) };
  if (value.kind === 'optional') return { ...value, value: value.value && shared(value.value) };
  return value;
}

/** A value on the GPU as numbers on the host, of what was read of its tensor. */
export function onHost(value: Device, values: ArrayLike<number>, axes: readonly number[]): HostTensor {
  const { kind, name } = typeOf(value);
  const shape = [...axes];
  if (sizeOf(shape) !== values.length) throw new GlimpseError(`[${shape}] has ${values.length} values`);
  if (kind === 'int') return { kind, type: name, shape, data: Array.from(values) };
  return { kind, type: name, shape, data: name === 'double' ? Float64Array.from(values) : Float32Array.from(values) };
}
