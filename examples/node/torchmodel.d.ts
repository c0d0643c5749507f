export type Elements =
  | Uint8Array | Int8Array | Int16Array | Int32Array | BigInt64Array | Float32Array | Float64Array
  | Uint16Array | Uint32Array | BigUint64Array;
export type Nested = number | bigint | Nested[];
export type Kind = "none" | "bool" | "int" | "float" | "complex" | "string" | "tensor" | "list" | "tuple" | "dict" | "other";
export type Plain =
  | Value | null | undefined | boolean | bigint | number | string | Elements | Plain[] | Map<Plain, Plain> | { [key: string]: Plain };
export interface ElementType<T extends Elements> {
  new (buffer: ArrayBuffer): T;
}

export class TorchError extends Error {
  readonly status: number;
}

export class Value {
  private constructor();
  static tensor(numbers: Nested | Elements, shape?: number[], Type?: ElementType<Elements>): Value;
  static int(number: number | bigint): Value;
  static tuple(items: Plain[]): Value;
  static of(plain: Plain): Value;
  readonly kind: Kind;
  readonly shape: number[];
  elements(): Float64Array;
  elements<T extends Elements>(Type: ElementType<T>): T;
  items(): Value[];
  keys(): Value[];
  plain(): Plain;
  close(): void;
}

export class Model {
  constructor(path: string, device?: string);
  forward(...args: Plain[]): Promise<Value>;
  forwardSync(...args: Plain[]): Value;
  exampleShapes(): number[][];
  close(): void;
}
