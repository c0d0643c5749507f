with Interfaces.C;         use Interfaces.C;
with Interfaces.C.Strings; use Interfaces.C.Strings;
with System;               use System;

package body Torchmodel is

   subtype Status is Integer_32;

   Int64   : constant := 4; --  dtypes of the C API
   Float32 : constant := 6;
   Float64 : constant := 7;

   type Tensor_Info is record
      Data, Shape, Strides                                         : Address;
      Elements                                                     : Integer_64;
      Dimensions, Dtype, Element_Size, Is_Contiguous, Is_On_The_CPU : Integer_32;
   end record
     with Convention => C;

   type Argument is record
      Name, Type_Text, Default_Text : chars_ptr;
      Has_Default, Keyword_Only     : Integer_32;
   end record
     with Convention => C;

   type Handles is array (Positive range <>) of Address with Convention => C;

   function tm_last_error return chars_ptr with Import, Convention => C;
   function tm_model_load (Path, Device : char_array; Model : out Address) return Status with Import, Convention => C;
   function tm_model_free (Model : Address) return Status with Import, Convention => C;
   function tm_model_argument_count (Model : Address; Method : char_array; Count : out size_t) return Status
     with Import, Convention => C;
   function tm_model_argument (Model : Address; Method : char_array; Index : size_t; Result : out Argument) return Status
     with Import, Convention => C;
   function tm_model_example_shape
     (Model : Address; Method : char_array; Index : size_t; Shape : Address; Dimensions : out Integer_32) return Status
     with Import, Convention => C;
   function tm_model_forward (Model, Arguments : Address; Count : size_t; Result : out Address) return Status
     with Import, Convention => C;
   function tm_value_none (Result : out Address) return Status with Import, Convention => C;
   function tm_value_bool (Item : Integer_32; Result : out Address) return Status with Import, Convention => C;
   function tm_value_int (Item : Integer_64; Result : out Address) return Status with Import, Convention => C;
   function tm_value_float (Item : IEEE_Float_64; Result : out Address) return Status with Import, Convention => C;
   function tm_value_string (Text : Address; Size : size_t; Result : out Address) return Status
     with Import, Convention => C;
   function tm_value_list (Items : Address; Count : size_t; Result : out Address) return Status
     with Import, Convention => C;
   function tm_value_copy (Item : Address; Result : out Address) return Status with Import, Convention => C;
   function tm_value_free (Item : Address) return Status with Import, Convention => C;
   function tm_value_kind (Item : Address; Kind : out Integer_32) return Status with Import, Convention => C;
   function tm_value_get_bool (Item : Address; Result : out Integer_32) return Status with Import, Convention => C;
   function tm_value_get_int (Item : Address; Result : out Integer_64) return Status with Import, Convention => C;
   function tm_value_get_float (Item : Address; Result : out IEEE_Float_64) return Status with Import, Convention => C;
   function tm_value_get_string (Item : Address; Text : out Address; Size : out size_t) return Status
     with Import, Convention => C;
   function tm_value_length (Item : Address; Result : out size_t) return Status with Import, Convention => C;
   function tm_value_item (Item : Address; Index : size_t; Result : out Address) return Status
     with Import, Convention => C;
   function tm_value_key (Item : Address; Index : size_t; Result : out Address) return Status
     with Import, Convention => C;
   function tm_tensor_copy
     (Data : Address; Dtype : Integer_32; Shape : Address; Dimensions : Integer_32; Strides : Address;
      Result : out Address) return Status
     with Import, Convention => C;
   function tm_tensor_get_info (Item : Address; Info : out Tensor_Info) return Status with Import, Convention => C;
   function tm_tensor_to_dtype (Item : Address; Dtype : Integer_32; Result : out Address) return Status
     with Import, Convention => C;
   function tm_tensor_read (Item, Buffer : Address; Size : size_t) return Status with Import, Convention => C;

   Forward_Method : constant char_array := To_C ("forward");

   function Message return String is (Interfaces.C.Strings.Value (tm_last_error));

   procedure Check (Result : Status) is
   begin
      if Result /= 0 then
         raise Torch_Error with "see Torchmodel.Message"; --  GNAT cuts longer ones
      end if;
   end Check;

   --  A value of the handle that a successful call has written.
   function Made (Result : Status; Handle : Address) return Value is
   begin
      Check (Result);
      return (Ada.Finalization.Controlled with Handle => Handle);
   end Made;

   overriding procedure Adjust (Object : in out Value) is
      Copy : Address;
   begin
      if Object.Handle /= Null_Address then
         if tm_value_copy (Object.Handle, Copy) /= 0 then
            Object.Handle := Null_Address; --  the original frees it
            raise Torch_Error with "see Torchmodel.Message";
         end if;
         Object.Handle := Copy;
      end if;
   end Adjust;

   overriding procedure Finalize (Object : in out Value) is
      Ignored : Status;
   begin
      if Object.Handle /= Null_Address then
         Ignored := tm_value_free (Object.Handle);
         Object.Handle := Null_Address;
      end if;
   end Finalize;

   function Tensor_Of (Data : Address; Count : Natural; Dtype : Integer_32; Shape : Int64_Array) return Value is
      Elements : Integer_64 := 1;
      Handle   : Address;
      Result   : Status;
   begin
      for Size of Shape loop
         if Size < 0 or else Size > Integer_64 (Natural'Last) or else Elements > Integer_64 (Natural'Last) then
            raise Constraint_Error with "the shape is negative or too large";
         end if;
         Elements := Elements * Size;
      end loop;
      if Elements /= Integer_64 (Count) then
         raise Constraint_Error with "the shape does not have" & Count'Image & " elements";
      end if;
      Result := tm_tensor_copy (Data, Dtype, Shape'Address, Shape'Length, Null_Address, Handle);
      return Made (Result, Handle);
   end Tensor_Of;

   function To_Tensor (Numbers : Float32_Array; Shape : Int64_Array) return Value is
     (Tensor_Of (Numbers'Address, Numbers'Length, Float32, Shape));
   function To_Tensor (Numbers : Float64_Array; Shape : Int64_Array) return Value is
     (Tensor_Of (Numbers'Address, Numbers'Length, Float64, Shape));
   function To_Tensor (Numbers : Int64_Array; Shape : Int64_Array) return Value is
     (Tensor_Of (Numbers'Address, Numbers'Length, Int64, Shape));
   function To_Tensor (Rows : Float32_Matrix) return Value is
     (Tensor_Of (Rows'Address, Rows'Length (1) * Rows'Length (2), Float32, (Rows'Length (1), Rows'Length (2))));

   function To_None return Value is
      Handle : Address;
      Result : constant Status := tm_value_none (Handle);
   begin
      return Made (Result, Handle);
   end To_None;

   function To_Value (Item : Boolean) return Value is
      Handle : Address;
      Result : constant Status := tm_value_bool (Boolean'Pos (Item), Handle);
   begin
      return Made (Result, Handle);
   end To_Value;

   function To_Value (Item : Integer_64) return Value is
      Handle : Address;
      Result : constant Status := tm_value_int (Item, Handle);
   begin
      return Made (Result, Handle);
   end To_Value;

   function To_Value (Item : IEEE_Float_64) return Value is
      Handle : Address;
      Result : constant Status := tm_value_float (Item, Handle);
   begin
      return Made (Result, Handle);
   end To_Value;

   function To_Value (Item : String) return Value is
      Handle : Address;
      Result : constant Status := tm_value_string (Item'Address, Item'Length, Handle);
   begin
      return Made (Result, Handle);
   end To_Value;

   function Handles_Of (Items : Value_Array) return Handles is
   begin
      return Result : Handles (Items'Range) do
         for Index in Items'Range loop
            Result (Index) := Items (Index).Handle;
         end loop;
      end return;
   end Handles_Of;

   function To_List (Items : Value_Array) return Value is
      Every  : constant Handles := Handles_Of (Items);
      Handle : Address;
      Result : constant Status := tm_value_list (Every'Address, Every'Length, Handle);
   begin
      return Made (Result, Handle);
   end To_List;

   function Kind (Of_Value : Value) return Kinds is
      Number : Integer_32;
   begin
      Check (tm_value_kind (Of_Value.Handle, Number));
      return Kinds'Val (Number);
   end Kind;

   function As_Boolean (Of_Value : Value) return Boolean is
      Number : Integer_32;
   begin
      Check (tm_value_get_bool (Of_Value.Handle, Number));
      return Number /= 0;
   end As_Boolean;

   function As_Int (Of_Value : Value) return Integer_64 is
      Number : Integer_64;
   begin
      Check (tm_value_get_int (Of_Value.Handle, Number));
      return Number;
   end As_Int;

   function As_Float (Of_Value : Value) return IEEE_Float_64 is
      Number : IEEE_Float_64;
   begin
      Check (tm_value_get_float (Of_Value.Handle, Number));
      return Number;
   end As_Float;

   function As_String (Of_Value : Value) return String is
      Text : Address;
      Size : size_t;
   begin
      Check (tm_value_get_string (Of_Value.Handle, Text, Size));
      declare
         Result : String (1 .. Natural (Size)) with Import, Address => Text;
      begin
         return Result;
      end;
   end As_String;

   function Info (Handle : Address) return Tensor_Info is
   begin
      return Result : Tensor_Info do
         Check (tm_tensor_get_info (Handle, Result));
      end return;
   end Info;

   function Shape (Of_Value : Value) return Int64_Array is
      Its : constant Tensor_Info := Info (Of_Value.Handle);
   begin
      if Its.Dimensions = 0 then
         return (1 .. 0 => 0);
      end if;
      declare
         Result : Int64_Array (1 .. Natural (Its.Dimensions)) with Import, Address => Its.Shape;
      begin
         return Result;
      end;
   end Shape;

   generic
      type Element is private;
      type Element_Array is array (Positive range <>) of Element;
      Dtype : Integer_32;
   function Elements_Of (Of_Value : Value) return Element_Array;

   function Elements_Of (Of_Value : Value) return Element_Array is
      Handle    : Address;
      Converted : Value;
   begin
      Check (tm_tensor_to_dtype (Of_Value.Handle, Dtype, Handle));
      Converted.Handle := Handle;
      return Result : Element_Array (1 .. Natural (Info (Converted.Handle).Elements)) do
         Check (tm_tensor_read (Converted.Handle, Result'Address, size_t (Result'Length) * Element'Size / 8));
      end return;
   end Elements_Of;

   function Float32_Elements is new Elements_Of (IEEE_Float_32, Float32_Array, Float32);
   function Float64_Elements is new Elements_Of (IEEE_Float_64, Float64_Array, Float64);
   function Int64_Elements is new Elements_Of (Integer_64, Int64_Array, Int64);
   function Elements (Of_Value : Value) return Float32_Array is (Float32_Elements (Of_Value));
   function Elements (Of_Value : Value) return Float64_Array is (Float64_Elements (Of_Value));
   function Elements (Of_Value : Value) return Int64_Array is (Int64_Elements (Of_Value));

   function Length (Of_Value : Value) return Natural is
      Count : size_t;
   begin
      Check (tm_value_length (Of_Value.Handle, Count));
      return Natural (Count);
   end Length;

   function Item (Of_Value : Value; Index : Positive) return Value is
      Handle : Address;
      Result : constant Status := tm_value_item (Of_Value.Handle, size_t (Index - 1), Handle);
   begin
      return Made (Result, Handle);
   end Item;

   function Key (Of_Value : Value; Index : Positive) return Value is
      Handle : Address;
      Result : constant Status := tm_value_key (Of_Value.Handle, size_t (Index - 1), Handle);
   begin
      return Made (Result, Handle);
   end Key;

   overriding procedure Finalize (Object : in out Model) is
      Ignored : Status;
   begin
      if Object.Handle /= Null_Address then
         Ignored := tm_model_free (Object.Handle);
         Object.Handle := Null_Address;
      end if;
   end Finalize;

   procedure Load (Self : in out Model; Path : String; Device : String := "cpu") is
      Handle : Address;
   begin
      Check (tm_model_load (To_C (Path), To_C (Device), Handle));
      Finalize (Self);
      Self.Handle := Handle;
   end Load;

   function Forward (Self : Model'Class; Arguments : Value_Array) return Value is
      Every  : constant Handles := Handles_Of (Arguments);
      Handle : Address;
      Result : constant Status := tm_model_forward (Self.Handle, Every'Address, Every'Length, Handle);
   begin
      return Made (Result, Handle);
   end Forward;

   function Inputs (Self : Model) return Natural is
      Count  : size_t;
      Its    : Argument;
      Result : Natural := 0;
   begin
      Check (tm_model_argument_count (Self.Handle, Forward_Method, Count));
      while size_t (Result) < Count loop
         Check (tm_model_argument (Self.Handle, Forward_Method, size_t (Result), Its));
         exit when Its.Has_Default /= 0;
         Result := Result + 1;
      end loop;
      return Result;
   end Inputs;

   function Example_Shape (Self : Model; Index : Positive) return Int64_Array is
      Sizes      : Int64_Array (1 .. 64);
      Dimensions : Integer_32;
   begin
      Check (tm_model_example_shape (Self.Handle, Forward_Method, size_t (Index - 1), Sizes'Address, Dimensions));
      return Sizes (1 .. Natural (Dimensions));
   end Example_Shape;

end Torchmodel;
