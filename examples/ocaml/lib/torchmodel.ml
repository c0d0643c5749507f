exception Error of int * string

let () = Callback.register_exception "torchmodel.Error" (Error (0, ""))

(* The statuses of the C API that are raised here. *)
let error_argument = 1

type kind = None | Bool | Int | Float | Complex | String | Tensor | List | Tuple | Dict | Other

module Value = struct
  type t

  external of_bigarray : ('a, 'b, Bigarray.c_layout) Bigarray.Genarray.t -> t = "torchmodel_of_bigarray"
  external none : unit -> t = "torchmodel_none"
  external bool : bool -> t = "torchmodel_bool"
  external int : int -> t = "torchmodel_int"
  external float : float -> t = "torchmodel_float"
  external string : string -> t = "torchmodel_string"
  external list_of_array : t array -> t = "torchmodel_list"
  external kind : t -> kind = "torchmodel_kind"
  external to_bool : t -> bool = "torchmodel_to_bool"
  external to_int : t -> int = "torchmodel_to_int"
  external to_float : t -> float = "torchmodel_to_float"
  external to_string : t -> string = "torchmodel_to_string"
  external shape_array : t -> int array = "torchmodel_shape"
  external read : t -> ('a, 'b, Bigarray.c_layout) Bigarray.Genarray.t -> unit = "torchmodel_read"
  external length : t -> int = "torchmodel_length"
  external item : t -> int -> t = "torchmodel_item"
  external key : t -> int -> t = "torchmodel_key"
  external free : t -> unit = "torchmodel_value_free"

  let tensor kind numbers shape =
    let text = String.concat " " (List.map string_of_int shape) in
    let times product size =
      if size < 0 || (size > 0 && product > max_int / size) then
        raise (Error (error_argument, Printf.sprintf "%s is no shape of a tensor" text));
      product * size
    in
    let count = List.fold_left times 1 shape in
    if count <> Array.length numbers then
      raise
        (Error
           (error_argument, Printf.sprintf "the shape %s does not have %d elements" text (Array.length numbers)));
    let flat = Bigarray.Array1.of_array kind Bigarray.c_layout numbers in
    of_bigarray (Bigarray.reshape (Bigarray.genarray_of_array1 flat) (Array.of_list shape))

  let tensor2 kind rows =
    let columns = if rows = [||] then 0 else Array.length rows.(0) in
    if Array.exists (fun row -> Array.length row <> columns) rows then
      raise (Error (error_argument, "the rows have different lengths"));
    tensor kind (Array.concat (Array.to_list rows)) [ Array.length rows; columns ]

  let list items = list_of_array (Array.of_list items)
  let shape value = Array.to_list (shape_array value)

  let to_bigarray kind value =
    let numbers = Bigarray.Genarray.create kind Bigarray.c_layout (shape_array value) in
    read value numbers;
    numbers

  let elements kind value =
    let numbers = to_bigarray kind value in
    let count = Array.fold_left ( * ) 1 (Bigarray.Genarray.dims numbers) in
    let flat = Bigarray.reshape_1 numbers count in
    Array.init count (Bigarray.Array1.get flat)

  let items value = List.init (length value) (item value)
  let keys value = List.init (length value) (key value)
end

type t

external load_on : string -> string -> t = "torchmodel_load"
external forward_array : t -> Value.t array -> Value.t = "torchmodel_forward"
external inputs : t -> int = "torchmodel_inputs"
external example_shape : t -> int -> int array = "torchmodel_example_shape"
external free : t -> unit = "torchmodel_model_free"

let load ?(device = "cpu") path = load_on path device
let forward model arguments = forward_array model (Array.of_list arguments)

let example_shapes model =
  List.init (inputs model) (fun index -> Array.to_list (example_shape model index))
