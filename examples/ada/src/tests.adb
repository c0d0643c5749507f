with Ada.Command_Line;
with Ada.Strings.Fixed; use Ada.Strings.Fixed;
with Ada.Text_IO;       use Ada.Text_IO;
with Interfaces;        use Interfaces;
with Torchmodel;        use Torchmodel;

procedure Tests is

   procedure Check (Right : Boolean; What : String) is
   begin
      if not Right then
         Put_Line (Standard_Error, "failed: " & What);
         Ada.Command_Line.Set_Exit_Status (1);
      end if;
   end Check;

   Self, Missing : Model;
   Rows          : constant Float32_Matrix := ((1.0, 1.0, 1.0, 1.0), (0.0, 0.0, 0.0, 0.0));
   Output, Copy  : Value;

begin
   Self.Load ("model.pt");
   Output := Self.Forward ((1 => To_Tensor (Rows)));
   Check (Output.Kind = A_Tensor, "the kind");
   Check (Output.Shape = Int64_Array'(2, 2), "the shape");
   Copy := Output;
   Output := To_None;
   declare
      Numbers : constant Float32_Array := Copy.Elements;
   begin
      Check (Numbers (1 .. 2) = (2.5, -0.75), "the numbers of a copy");
   end;

   begin
      Output := Self.Forward ((1 => To_Tensor (Float32_Array'(1.0, 1.0, 1.0), (1, 3))));
      Check (False, "a wrong shape");
   exception
      when Torch_Error => Check (Index (Message, "shapes cannot be multiplied") > 0, Message);
   end;
   begin
      Missing.Load ("missing.pt");
      Check (False, "a missing model");
   exception
      when Torch_Error => Check (Index (Message, "missing.pt") > 0, Message);
   end;
   begin
      Output := To_Tensor (Float32_Array'(1.0, 1.0, 1.0), (2, 2));
      Check (False, "three numbers of the shape 2x2");
   exception
      when Constraint_Error => null;
   end;

   Check (To_Value ("a" & ASCII.NUL & "b").As_String = "a" & ASCII.NUL & "b", "a string");
   Check (To_List ((To_Value (Integer_64 (7)), To_Value (True))).Item (1).As_Int = 7, "a list");
end Tests;
