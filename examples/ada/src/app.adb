--  Runs a model with tensors of ones: app [--repeat N] MODEL [SIZE...]
--  The sizes are those of each input; without them they follow from the model.

with Ada.Command_Line; use Ada.Command_Line;
with Ada.Exceptions;
with Ada.Long_Float_Text_IO;
with Ada.Strings.Fixed; use Ada.Strings.Fixed;
with Ada.Text_IO;      use Ada.Text_IO;
with Ada.Unchecked_Deallocation;
with Interfaces;       use Interfaces;
with Torchmodel;       use Torchmodel;

procedure App is

   Usage : exception;
   type Numbers is access Float32_Array;
   procedure Free is new Ada.Unchecked_Deallocation (Float32_Array, Numbers);

   procedure Put_Number (Number : IEEE_Float_64) is
      Text  : String (1 .. 400);
      First : Positive := 1;
   begin
      Ada.Long_Float_Text_IO.Put (Text, Long_Float (Number), Aft => 9, Exp => (if abs Number < 1.0E9 then 0 else 3));
      while Text (First) = ' ' loop
         First := First + 1;
      end loop;
      Put (Text (First .. Text'Last));
   end Put_Number;

   procedure Show (Item : Value) is
   begin
      case Item.Kind is
         when A_Tensor =>
            declare
               Every : constant Float64_Array := Item.Elements;
            begin
               for Index in Every'Range loop
                  Put (if Index = 1 then "" else " ");
                  Put_Number (Every (Index));
               end loop;
               New_Line;
            end;
         when A_List | A_Tuple | A_Dict =>
            for Index in 1 .. Item.Length loop
               Show (Item.Item (Index));
            end loop;
         when A_String       => Put_Line (Item.As_String);
         when An_Int         => Put_Line (Trim (Item.As_Int'Image, Ada.Strings.Left));
         when A_Float        => Put_Number (Item.As_Float); New_Line;
         when A_Bool         => Put_Line (if Item.As_Boolean then "true" else "false");
         when others         => Put_Line ("none");
      end case;
   end Show;

   function Ones (Shape : Int64_Array) return Value is
      Count : Integer_64 := 1;
      Every : Numbers;
   begin
      for Size of Shape loop
         Count := Count * Size;
      end loop;
      Every := new Float32_Array (1 .. Natural (Count));
      Every.all := (others => 1.0);
      return Result : Value do
         Result := To_Tensor (Every.all, Shape);
         Free (Every);
      end return;
   end Ones;

   --  A whole number below a million.
   function Number (Text : String) return Integer_64 is
   begin
      if Text'Length not in 1 .. 6 or else (for some Letter of Text => Letter not in '0' .. '9') then
         raise Usage;
      end if;
      return Integer_64'Value (Text);
   end Number;

   Self   : Model;
   First  : Positive := 1;
   Repeat : Integer_64 := 1;

begin
   if Argument_Count >= 2 and then Argument (1) = "--repeat" then
      Repeat := Number (Argument (2));
      First := 3;
   end if;
   if Argument_Count < First then
      raise Usage;
   end if;
   declare
      Sizes : Int64_Array (1 .. Argument_Count - First);
   begin
      for Index in Sizes'Range loop
         Sizes (Index) := Number (Argument (First + Index));
      end loop;
      Self.Load (Argument (First));
      for Call in 1 .. Repeat loop
         declare
            Inputs : Value_Array (1 .. Self.Inputs);
            Output : Value;
         begin
            for Index in Inputs'Range loop
               Inputs (Index) := Ones (if Sizes'Length > 0 then Sizes else Self.Example_Shape (Index));
            end loop;
            Output := Self.Forward (Inputs);
            if Call = Repeat then
               Show (Output);
            end if;
         end;
      end loop;
   end;
exception
   when Usage =>
      Put_Line (Standard_Error, "usage: app [--repeat N] MODEL [SIZE...]");
      Set_Exit_Status (2);
   when Torch_Error =>
      Put_Line (Standard_Error, "app: " & Message);
      Set_Exit_Status (1);
   when Error : Constraint_Error | Storage_Error =>
      Put_Line (Standard_Error, "app: " & Ada.Exceptions.Exception_Message (Error));
      Set_Exit_Status (1);
end App;
