(* Runs a model with tensors of ones: main.exe [--repeat N] MODEL [SIZE...]
   The sizes are those of each input; without them they follow from the model. *)
open Torchmodel

let rec print value =
  match Value.kind value with
  | Tensor ->
      let numbers = Array.to_list (Value.elements Float64 value) in
      print_endline (String.concat " " (List.map (Printf.sprintf "%.9g") numbers))
  | List | Tuple | Dict -> List.iter print (Value.items value)
  | String -> print_endline (Value.to_string value)
  | Int -> print_endline (string_of_int (Value.to_int value))
  | Float -> Printf.printf "%.9g\n" (Value.to_float value)
  | Bool -> print_endline (string_of_bool (Value.to_bool value))
  | None -> print_endline "none"
  | Complex | Other -> print_endline "other"

let ones shape = Value.tensor Float32 (Array.make (List.fold_left ( * ) 1 shape) 1.) shape

let run path sizes repeat =
  let model = load path in
  let shapes = example_shapes model in
  for number = 1 to repeat do
    let inputs = List.map (fun guess -> ones (if sizes = [] then guess else sizes)) shapes in
    let output = forward model inputs in
    if number = repeat then print output
  done

exception Usage

(* A whole number below a million. *)
let number text =
  if text = "" || String.length text > 6 then raise Usage;
  String.iter (function '0' .. '9' -> () | _ -> raise Usage) text;
  int_of_string text

let () =
  try
    let repeat, arguments =
      match List.tl (Array.to_list Sys.argv) with
      | "--repeat" :: count :: rest -> (number count, rest)
      | rest -> (1, rest)
    in
    match arguments with
    | [] -> raise Usage
    | path :: sizes -> run path (List.map number sizes) repeat
  with
  | Usage ->
      prerr_endline "usage: main.exe [--repeat N] MODEL [SIZE...]";
      exit 2
  | Error (_, message) ->
      prerr_endline ("main.exe: " ^ message);
      exit 1
  | Invalid_argument _ | Out_of_memory ->
      prerr_endline "main.exe: the input is too large";
      exit 1
