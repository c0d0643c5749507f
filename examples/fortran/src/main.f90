! Runs a model with tensors of ones: app [--repeat N] MODEL [SIZE...]
! The sizes are those of each input; without them they follow from the model.
program app
  use, intrinsic :: iso_fortran_env, only: error_unit, int64, real32
  use torchmodel
  implicit none
  type(torch_model) :: model
  type(torch_value) :: output
  type(torch_value), allocatable :: inputs(:)
  integer(int64), allocatable :: sizes(:), shape(:)
  real(real32), allocatable :: ones(:)
  integer :: first, number, count, i

  first = 1
  count = 1
  if (command_argument_count() >= 2) then
    if (argument(1) == "--repeat") then
      count = int(size_of(argument(2)))
      first = 3
    end if
  end if
  if (command_argument_count() < first) call usage()
  allocate (sizes(command_argument_count() - first))
  do i = 1, size(sizes)
    sizes(i) = size_of(argument(first + i))
  end do

  call torch_load(model, argument(first))
  if (torch_failed()) call fail()
  allocate (inputs(model%inputs()))
  do number = 1, count
    do i = 1, size(inputs)
      shape = model%example_shape(i)
      if (torch_failed()) call fail()
      if (size(sizes) > 0) shape = sizes
      allocate (ones(product(shape)))
      ones = 1
      call torch_tensor(inputs(i), ones, shape)
      deallocate (ones)
      if (torch_failed()) call fail()
    end do
    call model%forward(inputs, output)
    if (torch_failed()) call fail()
  end do
  call show(output)

contains

  ! One line for each tensor, number and text in a value.
  recursive subroutine show(value)
    type(torch_value), intent(in) :: value
    type(torch_value) :: item
    character(len=32) :: text
    real(kind(1d0)), allocatable :: numbers(:)
    integer(int64) :: n
    integer :: k
    select case (value%kind())
    case (KIND_TENSOR)
      numbers = value%numbers()
      do k = 1, size(numbers)
        write (text, "(g0.9)") numbers(k)
        if (k > 1) write (*, "(a)", advance="no") " "
        write (*, "(a)", advance="no") trim(adjustl(text))
      end do
      write (*, *)
    case (KIND_LIST, KIND_TUPLE, KIND_DICT)
      do n = 1, value%length()
        call value%item(n, item)
        call show(item)
      end do
    case (KIND_STRING)
      write (*, "(a)") value%as_string()
    case (KIND_INT)
      write (*, "(i0)") value%as_int()
    case (KIND_FLOAT)
      write (*, "(g0.9)") value%as_float()
    case (KIND_BOOL)
      write (*, "(a)") merge("true ", "false", value%as_bool())
    case default
      write (*, "(a)") "none"
    end select
  end subroutine

  function argument(number) result(text)
    integer, intent(in) :: number
    character(len=:), allocatable :: text
    integer :: length
    call get_command_argument(number, length=length)
    allocate (character(len=length) :: text)
    call get_command_argument(number, text)
  end function

  integer(int64) function size_of(text)
    character(len=*), intent(in) :: text
    integer :: status
    status = 1
    if (len(text) > 0 .and. len(text) < 8 .and. verify(text, "0123456789") == 0) read (text, *, iostat=status) size_of
    if (status /= 0) call usage()
  end function

  subroutine usage()
    write (error_unit, "(a)") "usage: app [--repeat N] MODEL [SIZE...]"
    stop 2, quiet=.true.
  end subroutine

  subroutine fail()
    write (error_unit, "(a)") "app: " // torch_message()
    stop 1, quiet=.true.
  end subroutine
end program
