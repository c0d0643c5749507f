(** TorchScript models and AOTInductor packages, through the C API in [.torchlink/capi].

    Models and values free what they own when they are garbage, or at once by [free]. Threads may share a model. *)

exception Error of int * string
(** A status of the C API, and what libtorch said of the failure. *)

type kind = None | Bool | Int | Float | Complex | String | Tensor | List | Tuple | Dict | Other

module Value : sig
  type t
  (** Anything that a model takes or returns. *)

  val tensor : ('a, 'b) Bigarray.kind -> 'a array -> int list -> t
  (** Of a type, the numbers in row-major order, and the sizes: [tensor Float32 [|1.; 2.|] [1; 2]]. *)

  val tensor2 : ('a, 'b) Bigarray.kind -> 'a array array -> t
  (** A tensor of two dimensions from rows of one length. *)

  val of_bigarray : ('a, 'b, Bigarray.c_layout) Bigarray.Genarray.t -> t
  (** A tensor with a copy of the numbers. *)

  val none : unit -> t
  val bool : bool -> t
  val int : int -> t
  val float : float -> t
  val string : string -> t
  val list : t list -> t

  val kind : t -> kind
  val to_bool : t -> bool
  val to_int : t -> int
  val to_float : t -> float
  val to_string : t -> string

  val shape : t -> int list
  (** The sizes of a tensor. *)

  val elements : ('a, 'b) Bigarray.kind -> t -> 'a array
  (** The elements of a tensor in row-major order, converted to a type. *)

  val to_bigarray : ('a, 'b) Bigarray.kind -> t -> ('a, 'b, Bigarray.c_layout) Bigarray.Genarray.t

  val items : t -> t list
  (** Of a list, a tuple or a dict. *)

  val keys : t -> t list
  (** Of a dict, in the order of its items. *)

  val free : t -> unit
  (** Free the value now; it cannot be used any more. *)
end

type t
(** A model. *)

val load : ?device:string -> string -> t
(** From a file, on ["cpu"] (the default), ["cuda:0"], … *)

val forward : t -> Value.t list -> Value.t
(** Missing arguments take their defaults. *)

val example_shapes : t -> int list list
(** A shape for each argument of forward that has no default: a guess from the weights. *)

val free : t -> unit
(** Free the model now; it cannot be used any more. *)
