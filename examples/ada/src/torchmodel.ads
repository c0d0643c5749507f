--  TorchScript models and AOTInductor packages, through the C API in .torchlink/capi.
--
--  Models and values are controlled: what they own is freed when they leave their scope. Tasks may share a model.

with Ada.Finalization;
with Interfaces; use Interfaces;
with System;

package Torchmodel is

   --  libtorch or the C API failed; Message is what they said, in this task, until its next failure.
   Torch_Error : exception;
   function Message return String;

   type Kinds is
     (A_None, A_Bool, An_Int, A_Float, A_Complex, A_String, A_Tensor, A_List, A_Tuple, A_Dict, Something_Else);

   type Int64_Array is array (Positive range <>) of Integer_64;
   type Float32_Array is array (Positive range <>) of IEEE_Float_32;
   type Float64_Array is array (Positive range <>) of IEEE_Float_64;
   type Float32_Matrix is array (Positive range <>, Positive range <>) of IEEE_Float_32;

   --  Anything that a model takes or returns. A copy is another handle of the same value.
   type Value is tagged private;
   type Value_Array is array (Positive range <>) of Value;

   --  A tensor with a copy of the numbers, in row-major order. Constraint_Error: the shape has not as many.
   function To_Tensor (Numbers : Float32_Array; Shape : Int64_Array) return Value;
   function To_Tensor (Numbers : Float64_Array; Shape : Int64_Array) return Value;
   function To_Tensor (Numbers : Int64_Array; Shape : Int64_Array) return Value;
   function To_Tensor (Rows : Float32_Matrix) return Value;

   function To_None return Value;
   function To_Value (Item : Boolean) return Value;
   function To_Value (Item : Integer_64) return Value;
   function To_Value (Item : IEEE_Float_64) return Value;
   function To_Value (Item : String) return Value; --  in UTF-8
   function To_List (Items : Value_Array) return Value;

   function Kind (Of_Value : Value) return Kinds;
   function As_Boolean (Of_Value : Value) return Boolean;
   function As_Int (Of_Value : Value) return Integer_64;
   function As_Float (Of_Value : Value) return IEEE_Float_64;
   function As_String (Of_Value : Value) return String;

   --  The sizes of a tensor, and its elements in row-major order, converted.
   function Shape (Of_Value : Value) return Int64_Array;
   function Elements (Of_Value : Value) return Float32_Array;
   function Elements (Of_Value : Value) return Float64_Array;
   function Elements (Of_Value : Value) return Int64_Array;

   --  How many items a list, a tuple or a dict has, and each, from 1; the keys of a dict.
   function Length (Of_Value : Value) return Natural;
   function Item (Of_Value : Value; Index : Positive) return Value;
   function Key (Of_Value : Value; Index : Positive) return Value;

   type Model is tagged limited private;

   --  On a device: "cpu", "cuda:0", ...
   procedure Load (Self : in out Model; Path : String; Device : String := "cpu");

   --  Missing arguments take their defaults.
   function Forward (Self : Model'Class; Arguments : Value_Array) return Value;

   --  How many arguments of forward have no default, and a shape for each: a guess from the weights.
   function Inputs (Self : Model) return Natural;
   function Example_Shape (Self : Model; Index : Positive) return Int64_Array;

private

   type Value is new Ada.Finalization.Controlled with record
      Handle : System.Address := System.Null_Address;
   end record;
   overriding procedure Adjust (Object : in out Value);
   overriding procedure Finalize (Object : in out Value);

   type Model is new Ada.Finalization.Limited_Controlled with record
      Handle : System.Address := System.Null_Address;
   end record;
   overriding procedure Finalize (Object : in out Model);

end Torchmodel;
