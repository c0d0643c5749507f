open Torchmodel

let model = load "../model.pt"
let check what right = if not right then failwith ("failed: " ^ what)

let contains part text =
  let rec at i = i + String.length part <= String.length text && (String.sub text i (String.length part) = part || at (i + 1)) in
  at 0

let fails part action =
  match action () with
  | exception Error (_, message) -> check message (contains part message)
  | _ -> failwith ("no error: " ^ part)

let forward_returns_numbers () =
  let output = forward model [ Value.tensor2 Float32 [| [| 1.; 1.; 1.; 1. |]; [| 0.; 0.; 0.; 0. |] |] ] in
  check "kind" (Value.kind output = Tensor);
  check "shape" (Value.shape output = [ 2; 2 ]);
  check "numbers" (Array.sub (Value.elements Float32 output) 0 2 = [| 2.5; -0.75 |]);
  check "integers" (Array.sub (Value.elements Int64 output) 0 2 = [| 2L; 0L |]);
  check "bigarray" (Bigarray.Genarray.get (Value.to_bigarray Float64 output) [| 0; 1 |] = -0.75)

let failures_are_errors () =
  fails "shapes cannot be multiplied" (fun () -> forward model [ Value.tensor Float32 [| 1.; 1.; 1. |] [ 1; 3 ] ]);
  fails "missing.pt" (fun () -> load "missing.pt");
  fails "elements" (fun () -> Value.tensor Float32 [| 1.; 1.; 1. |] [ 2; 2 ]);
  fails "different lengths" (fun () -> Value.tensor2 Float32 [| [| 1. |]; [| 1.; 2. |] |]);
  let freed = Value.int 1 in
  Value.free freed;
  Value.free freed;
  fails "freed" (fun () -> Value.kind freed)

let values_keep_what_they_are_given () =
  check "string" (Value.to_string (Value.string "a\000\u{fc}") = "a\000\u{fc}");
  let items = Value.items (Value.list [ Value.int 7; Value.int min_int ]) in
  check "list" (List.map Value.to_int items = [ 7; min_int ]);
  check "bool" (Value.to_bool (Value.bool true));
  check "float" (Value.to_float (Value.float 0.1) = 0.1);
  check "none" (Value.kind (Value.none ()) = None);
  let nothing = Value.tensor Float32 [||] [ 0; 4 ] in
  check "no elements" (Value.shape nothing = [ 0; 4 ] && Value.elements Float32 nothing = [||]);
  check "no dimensions" (Value.elements Int (Value.tensor Int [| 9 |] []) = [| 9 |])

let threads_share_a_model () =
  let call () =
    for _ = 1 to 50 do
      let output = forward model [ Value.tensor Float32 [| 1.; 1.; 1.; 1. |] [ 1; 4 ] ] in
      if Value.elements Float64 output <> [| 2.5; -0.75 |] then exit 1
    done
  in
  List.iter Thread.join (List.init 4 (fun _ -> Thread.create call ()))

let () =
  forward_returns_numbers ();
  failures_are_errors ();
  values_keep_what_they_are_given ();
  threads_share_a_model ()
