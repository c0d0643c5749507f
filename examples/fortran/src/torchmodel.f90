! TorchScript models and AOTInductor packages in Fortran, through the C API in .torchlink/capi.
!
! Values and models are freed when they are finalized. After a failure `torch_failed()` is true and `torch_message()` says why;
! what was returned is unset then. A tensor has the shape of the array reversed: Fortran stores the first index closest.
module torchmodel
  use, intrinsic :: iso_c_binding
  implicit none
  private
  public :: torch_model, torch_value, torch_load, torch_tensor, torch_int, torch_float, torch_bool, torch_string, torch_list
  public :: torch_failed, torch_message
  public :: KIND_NONE, KIND_BOOL, KIND_INT, KIND_FLOAT, KIND_COMPLEX, KIND_STRING
  public :: KIND_TENSOR, KIND_LIST, KIND_TUPLE, KIND_DICT

  enum, bind(c)
    enumerator :: KIND_NONE, KIND_BOOL, KIND_INT, KIND_FLOAT, KIND_COMPLEX, KIND_STRING
    enumerator :: KIND_TENSOR, KIND_LIST, KIND_TUPLE, KIND_DICT
  end enum

  integer(c_int32_t), parameter :: FLOAT32 = 6, FLOAT64 = 7, INT64 = 4
  integer, parameter :: MOST_DIMENSIONS = 64

  type, bind(c) :: tensor_info
    type(c_ptr) :: data, shape, strides
    integer(c_int64_t) :: elements
    integer(c_int32_t) :: dimensions, dtype, element_size, is_contiguous, is_cpu
  end type

  type, bind(c) :: argument_info
    type(c_ptr) :: name, type, default_text
    integer(c_int32_t) :: has_default, keyword_only
  end type

  ! Anything that a model takes or returns.
  type :: torch_value
    type(c_ptr) :: handle = c_null_ptr
  contains
    procedure :: kind => value_kind
    procedure :: shape => value_shape
    procedure :: numbers => value_numbers
    procedure :: as_int, as_float, as_bool, as_string
    procedure :: length => value_length
    procedure :: item => value_item
    procedure :: key => value_key
    procedure, private :: assign_value
    generic :: assignment(=) => assign_value
    final :: free_value
  end type

  ! A TorchScript model or an AOTInductor package. It belongs to one variable.
  type :: torch_model
    type(c_ptr) :: handle = c_null_ptr
  contains
    procedure :: forward => model_forward
    procedure :: inputs => model_inputs
    procedure :: example_shape => model_example_shape
    final :: free_model
  end type

  ! From an array of real32, real64 or int64 of one to three dimensions, or of one and a shape in row-major order.
  interface torch_tensor
    module procedure tensor_r32, tensor_r32_2, tensor_r32_3, tensor_r64, tensor_i64
  end interface

  logical :: failed = .false.

  interface
    function tm_last_error() bind(c) result(text)
      import
      type(c_ptr) :: text
    end function
    function tm_model_load(path, device, model) bind(c) result(status)
      import
      character(kind=c_char), intent(in) :: path(*), device(*)
      type(c_ptr), intent(out) :: model
      integer(c_int32_t) :: status
    end function
    function tm_model_free(model) bind(c) result(status)
      import
      type(c_ptr), value :: model
      integer(c_int32_t) :: status
    end function
    function tm_model_argument_count(model, method, count) bind(c) result(status)
      import
      type(c_ptr), value :: model
      character(kind=c_char), intent(in) :: method(*)
      integer(c_size_t), intent(out) :: count
      integer(c_int32_t) :: status
    end function
    function tm_model_argument(model, method, index, argument) bind(c) result(status)
      import
      type(c_ptr), value :: model
      character(kind=c_char), intent(in) :: method(*)
      integer(c_size_t), value :: index
      type(argument_info), intent(out) :: argument
      integer(c_int32_t) :: status
    end function
    function tm_model_example_shape(model, method, index, shape, dimensions) bind(c) result(status)
      import
      type(c_ptr), value :: model
      character(kind=c_char), intent(in) :: method(*)
      integer(c_size_t), value :: index
      integer(c_int64_t), intent(out) :: shape(*)
      integer(c_int32_t), intent(out) :: dimensions
      integer(c_int32_t) :: status
    end function
    function tm_model_forward(model, arguments, count, result) bind(c) result(status)
      import
      type(c_ptr), value :: model
      type(c_ptr), intent(in) :: arguments(*)
      integer(c_size_t), value :: count
      type(c_ptr), intent(out) :: result
      integer(c_int32_t) :: status
    end function
    function tm_value_int(number, value) bind(c) result(status)
      import
      integer(c_int64_t), value :: number
      type(c_ptr), intent(out) :: value
      integer(c_int32_t) :: status
    end function
    function tm_value_float(number, value) bind(c) result(status)
      import
      real(c_double), value :: number
      type(c_ptr), intent(out) :: value
      integer(c_int32_t) :: status
    end function
    function tm_value_bool(boolean, value) bind(c) result(status)
      import
      integer(c_int32_t), value :: boolean
      type(c_ptr), intent(out) :: value
      integer(c_int32_t) :: status
    end function
    function tm_value_string(text, size, value) bind(c) result(status)
      import
      character(kind=c_char), intent(in) :: text(*)
      integer(c_size_t), value :: size
      type(c_ptr), intent(out) :: value
      integer(c_int32_t) :: status
    end function
    function tm_value_list(items, count, value) bind(c) result(status)
      import
      type(c_ptr), intent(in) :: items(*)
      integer(c_size_t), value :: count
      type(c_ptr), intent(out) :: value
      integer(c_int32_t) :: status
    end function
    function tm_value_copy(value, copy) bind(c) result(status)
      import
      type(c_ptr), value :: value
      type(c_ptr), intent(out) :: copy
      integer(c_int32_t) :: status
    end function
    function tm_value_free(value) bind(c) result(status)
      import
      type(c_ptr), value :: value
      integer(c_int32_t) :: status
    end function
    function tm_value_kind(value, kind) bind(c) result(status)
      import
      type(c_ptr), value :: value
      integer(c_int32_t), intent(out) :: kind
      integer(c_int32_t) :: status
    end function
    function tm_value_get_int(value, number) bind(c) result(status)
      import
      type(c_ptr), value :: value
      integer(c_int64_t), intent(out) :: number
      integer(c_int32_t) :: status
    end function
    function tm_value_get_float(value, number) bind(c) result(status)
      import
      type(c_ptr), value :: value
      real(c_double), intent(out) :: number
      integer(c_int32_t) :: status
    end function
    function tm_value_get_bool(value, boolean) bind(c) result(status)
      import
      type(c_ptr), value :: value
      integer(c_int32_t), intent(out) :: boolean
      integer(c_int32_t) :: status
    end function
    function tm_value_get_string(value, text, size) bind(c) result(status)
      import
      type(c_ptr), value :: value
      type(c_ptr), intent(out) :: text
      integer(c_size_t), intent(out) :: size
      integer(c_int32_t) :: status
    end function
    function tm_value_length(value, length) bind(c) result(status)
      import
      type(c_ptr), value :: value
      integer(c_size_t), intent(out) :: length
      integer(c_int32_t) :: status
    end function
    function tm_value_item(value, index, item) bind(c) result(status)
      import
      type(c_ptr), value :: value
      integer(c_size_t), value :: index
      type(c_ptr), intent(out) :: item
      integer(c_int32_t) :: status
    end function
    function tm_value_key(value, index, key) bind(c) result(status)
      import
      type(c_ptr), value :: value
      integer(c_size_t), value :: index
      type(c_ptr), intent(out) :: key
      integer(c_int32_t) :: status
    end function
    function tm_tensor_copy(data, dtype, shape, dimensions, strides, value) bind(c) result(status)
      import
      type(c_ptr), value :: data
      integer(c_int32_t), value :: dtype
      integer(c_int64_t), intent(in) :: shape(*)
      integer(c_int32_t), value :: dimensions
      type(c_ptr), value :: strides
      type(c_ptr), intent(out) :: value
      integer(c_int32_t) :: status
    end function
    function tm_tensor_get_info(value, info) bind(c) result(status)
      import
      type(c_ptr), value :: value
      type(tensor_info), intent(out) :: info
      integer(c_int32_t) :: status
    end function
    function tm_tensor_to_dtype(value, dtype, result) bind(c) result(status)
      import
      type(c_ptr), value :: value
      integer(c_int32_t), value :: dtype
      type(c_ptr), intent(out) :: result
      integer(c_int32_t) :: status
    end function
    function tm_tensor_read(value, buffer, size) bind(c) result(status)
      import
      type(c_ptr), value :: value, buffer
      integer(c_size_t), value :: size
      integer(c_int32_t) :: status
    end function
    function strlen(text) bind(c) result(length)
      import
      type(c_ptr), value :: text
      integer(c_size_t) :: length
    end function
  end interface

contains

  ! Whether the last call of this module failed.
  logical function torch_failed()
    torch_failed = failed
  end function

  ! What libtorch or the C API said of the last failure.
  function torch_message() result(text)
    character(len=:), allocatable :: text
    type(c_ptr) :: pointer
    pointer = tm_last_error()
    text = text_of(pointer, strlen(pointer))
  end function

  subroutine check(status)
    integer(c_int32_t), intent(in) :: status
    failed = status /= 0
  end subroutine

  function text_of(pointer, length) result(text)
    type(c_ptr), intent(in) :: pointer
    integer(c_size_t), intent(in) :: length
    character(len=:), allocatable :: text
    character(kind=c_char), pointer :: letters(:)
    integer(c_size_t) :: i
    call c_f_pointer(pointer, letters, [length])
    allocate (character(len=length) :: text)
    do i = 1, length
      text(i:i) = letters(i)
    end do
  end function

  impure elemental subroutine free_value(value)
    type(torch_value), intent(inout) :: value
    integer(c_int32_t) :: status
    if (c_associated(value%handle)) status = tm_value_free(value%handle)
    value%handle = c_null_ptr
  end subroutine

  ! Both sides refer to the same value afterwards, each with a handle of its own.
  impure elemental subroutine assign_value(left, right)
    class(torch_value), intent(inout) :: left
    class(torch_value), intent(in) :: right
    type(c_ptr) :: copy
    integer(c_int32_t) :: status
    copy = c_null_ptr
    if (c_associated(right%handle)) status = tm_value_copy(right%handle, copy)
    if (c_associated(left%handle)) status = tm_value_free(left%handle)
    left%handle = copy
  end subroutine

  impure elemental subroutine free_model(model)
    type(torch_model), intent(inout) :: model
    integer(c_int32_t) :: status
    if (c_associated(model%handle)) status = tm_model_free(model%handle)
    model%handle = c_null_ptr
  end subroutine

  ! Load a model on a device: "cpu" (the default), "cuda:0", …
  subroutine torch_load(model, path, device)
    type(torch_model), intent(inout) :: model
    character(len=*), intent(in) :: path
    character(len=*), intent(in), optional :: device
    call free_model(model)
    if (present(device)) then
      call check(tm_model_load(path // c_null_char, device // c_null_char, model%handle))
    else
      call check(tm_model_load(path // c_null_char, "cpu" // c_null_char, model%handle))
    end if
    if (failed) model%handle = c_null_ptr
  end subroutine

  ! Call forward; missing arguments take their defaults.
  subroutine model_forward(model, arguments, output)
    class(torch_model), intent(in) :: model
    type(torch_value), intent(in) :: arguments(:)
    type(torch_value), intent(inout) :: output
    type(c_ptr) :: handles(size(arguments)), made
    integer :: i
    do i = 1, size(arguments)
      handles(i) = arguments(i)%handle
    end do
    call free_value(output)
    call check(tm_model_forward(model%handle, handles, int(size(handles), c_size_t), made))
    if (.not. failed) output%handle = made
  end subroutine

  ! How many arguments of forward have no default.
  integer function model_inputs(model) result(inputs)
    class(torch_model), intent(in) :: model
    type(argument_info) :: argument
    integer(c_size_t) :: count
    inputs = 0
    call check(tm_model_argument_count(model%handle, "forward" // c_null_char, count))
    do while (.not. failed .and. inputs < count)
      call check(tm_model_argument(model%handle, "forward" // c_null_char, int(inputs, c_size_t), argument))
      if (failed .or. argument%has_default /= 0) exit
      inputs = inputs + 1
    end do
  end function

  ! A shape for an argument of forward, counted from 1: a guess from the weights.
  function model_example_shape(model, argument) result(shape)
    class(torch_model), intent(in) :: model
    integer, intent(in) :: argument
    integer(c_int64_t), allocatable :: shape(:)
    integer(c_int64_t) :: sizes(MOST_DIMENSIONS)
    integer(c_int32_t) :: dimensions
    call check(tm_model_example_shape(model%handle, "forward" // c_null_char, int(argument - 1, c_size_t), sizes, dimensions))
    if (failed) dimensions = 0
    shape = sizes(:dimensions)
  end function

  subroutine tensor_of(value, data, dtype, elements, shape)
    type(torch_value), intent(inout) :: value
    type(c_ptr), intent(in) :: data
    integer(c_int32_t), intent(in) :: dtype
    integer, intent(in) :: elements
    integer(c_int64_t), intent(in) :: shape(:)
    type(c_ptr) :: made
    call free_value(value)
    if (product(shape) /= elements) error stop "torch_tensor: the shape does not have the elements of the array"
    call check(tm_tensor_copy(data, dtype, shape, int(size(shape), c_int32_t), c_null_ptr, made))
    if (.not. failed) value%handle = made
  end subroutine

  subroutine tensor_r32(value, numbers, shape)
    type(torch_value), intent(inout) :: value
    real(c_float), intent(in), contiguous, target :: numbers(:)
    integer(c_int64_t), intent(in) :: shape(:)
    call tensor_of(value, c_loc(numbers), FLOAT32, size(numbers), shape)
  end subroutine

  subroutine tensor_r32_2(value, numbers)
    type(torch_value), intent(inout) :: value
    real(c_float), intent(in), contiguous, target :: numbers(:, :)
    integer(c_int64_t) :: sizes(2)
    sizes = shape(numbers)
    call tensor_of(value, c_loc(numbers), FLOAT32, size(numbers), sizes(2:1:-1))
  end subroutine

  subroutine tensor_r32_3(value, numbers)
    type(torch_value), intent(inout) :: value
    real(c_float), intent(in), contiguous, target :: numbers(:, :, :)
    integer(c_int64_t) :: sizes(3)
    sizes = shape(numbers)
    call tensor_of(value, c_loc(numbers), FLOAT32, size(numbers), sizes(3:1:-1))
  end subroutine

  subroutine tensor_r64(value, numbers, shape)
    type(torch_value), intent(inout) :: value
    real(c_double), intent(in), contiguous, target :: numbers(:)
    integer(c_int64_t), intent(in) :: shape(:)
    call tensor_of(value, c_loc(numbers), FLOAT64, size(numbers), shape)
  end subroutine

  subroutine tensor_i64(value, numbers, shape)
    type(torch_value), intent(inout) :: value
    integer(c_int64_t), intent(in), contiguous, target :: numbers(:)
    integer(c_int64_t), intent(in) :: shape(:)
    call tensor_of(value, c_loc(numbers), INT64, size(numbers), shape)
  end subroutine

  subroutine torch_int(value, number)
    type(torch_value), intent(inout) :: value
    integer(c_int64_t), intent(in) :: number
    call free_value(value)
    call check(tm_value_int(number, value%handle))
  end subroutine

  subroutine torch_float(value, number)
    type(torch_value), intent(inout) :: value
    real(c_double), intent(in) :: number
    call free_value(value)
    call check(tm_value_float(number, value%handle))
  end subroutine

  subroutine torch_bool(value, boolean)
    type(torch_value), intent(inout) :: value
    logical, intent(in) :: boolean
    call free_value(value)
    call check(tm_value_bool(merge(1_c_int32_t, 0_c_int32_t, boolean), value%handle))
  end subroutine

  subroutine torch_string(value, text)
    type(torch_value), intent(inout) :: value
    character(len=*), intent(in) :: text
    call free_value(value)
    call check(tm_value_string(text, len(text, c_size_t), value%handle))
  end subroutine

  subroutine torch_list(value, items)
    type(torch_value), intent(inout) :: value
    type(torch_value), intent(in) :: items(:)
    type(c_ptr) :: handles(size(items))
    integer :: i
    do i = 1, size(items)
      handles(i) = items(i)%handle
    end do
    call free_value(value)
    call check(tm_value_list(handles, int(size(handles), c_size_t), value%handle))
  end subroutine

  integer(c_int32_t) function value_kind(value) result(kind)
    class(torch_value), intent(in) :: value
    call check(tm_value_kind(value%handle, kind))
  end function

  ! The sizes of a tensor, in its own order: that of a Fortran array is the reverse.
  function value_shape(value) result(shape)
    class(torch_value), intent(in) :: value
    integer(c_int64_t), allocatable :: shape(:)
    integer(c_int64_t), pointer :: sizes(:)
    type(tensor_info) :: info
    call check(tm_tensor_get_info(value%handle, info))
    if (failed) info%dimensions = 0
    allocate (shape(info%dimensions))
    if (info%dimensions == 0) return
    call c_f_pointer(info%shape, sizes, [info%dimensions])
    shape = sizes
  end function

  ! The elements of a tensor in row-major order, as real64.
  function value_numbers(value) result(numbers)
    class(torch_value), intent(in) :: value
    real(c_double), allocatable, target :: numbers(:)
    type(torch_value) :: wide
    type(tensor_info) :: info
    allocate (numbers(0))
    call check(tm_tensor_to_dtype(value%handle, FLOAT64, wide%handle))
    if (failed) wide%handle = c_null_ptr
    if (failed) return
    call check(tm_tensor_get_info(wide%handle, info))
    if (failed .or. info%elements == 0) return
    deallocate (numbers)
    allocate (numbers(info%elements))
    call check(tm_tensor_read(wide%handle, c_loc(numbers), int(8 * info%elements, c_size_t)))
  end function

  integer(c_int64_t) function as_int(value) result(number)
    class(torch_value), intent(in) :: value
    number = 0
    call check(tm_value_get_int(value%handle, number))
  end function

  real(c_double) function as_float(value) result(number)
    class(torch_value), intent(in) :: value
    number = 0
    call check(tm_value_get_float(value%handle, number))
  end function

  logical function as_bool(value) result(boolean)
    class(torch_value), intent(in) :: value
    integer(c_int32_t) :: number
    number = 0
    call check(tm_value_get_bool(value%handle, number))
    boolean = number /= 0
  end function

  function as_string(value) result(text)
    class(torch_value), intent(in) :: value
    character(len=:), allocatable :: text
    type(c_ptr) :: pointer
    integer(c_size_t) :: size
    call check(tm_value_get_string(value%handle, pointer, size))
    text = ""
    if (.not. failed) text = text_of(pointer, size)
  end function

  ! How many items a list, a tuple or a dict has.
  integer(c_size_t) function value_length(value) result(length)
    class(torch_value), intent(in) :: value
    length = 0
    call check(tm_value_length(value%handle, length))
  end function

  ! An item of a list, a tuple or a dict, counted from 1, and the key of a dict's.
  subroutine value_item(value, index, item)
    class(torch_value), intent(in) :: value
    integer(c_size_t), intent(in) :: index
    type(torch_value), intent(inout) :: item
    type(c_ptr) :: made
    call check(tm_value_item(value%handle, index - 1, made))
    call free_value(item)
    if (.not. failed) item%handle = made
  end subroutine

  subroutine value_key(value, index, key)
    class(torch_value), intent(in) :: value
    integer(c_size_t), intent(in) :: index
    type(torch_value), intent(inout) :: key
    type(c_ptr) :: made
    call check(tm_value_key(value%handle, index - 1, made))
    call free_value(key)
    if (.not. failed) key%handle = made
  end subroutine
end module
