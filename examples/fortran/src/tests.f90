program tests
  use, intrinsic :: iso_fortran_env, only: error_unit, int64, real32
  use torchmodel
  implicit none
  type(torch_model) :: model, missing
  type(torch_value) :: output, copy, inputs(1)
  real(kind(1d0)), allocatable :: numbers(:)
  real(real32) :: ones(4, 2)

  call torch_load(model, "model.pt")
  call check(.not. torch_failed(), "load")
  ones(:, 1) = 1
  ones(:, 2) = 0
  call torch_tensor(inputs(1), ones)
  call model%forward(inputs, output)
  call check(output%kind() == KIND_TENSOR, "the kind")
  call check(all(output%shape() == [2_int64, 2_int64]), "the shape")
  numbers = output%numbers()
  call check(all(numbers(:2) == [2.5d0, -0.75d0]), "the numbers")
  copy = output
  numbers = copy%numbers()
  call check(numbers(1) == 2.5d0, "a copy")

  call torch_tensor(inputs(1), ones(:3, 1), [1_int64, 3_int64])
  call model%forward(inputs, output)
  call check(torch_failed(), "a wrong shape")
  call check(index(torch_message(), "shapes cannot be multiplied") > 0, torch_message())
  call torch_load(missing, "missing.pt")
  call check(torch_failed() .and. index(torch_message(), "missing.pt") > 0, "a missing model")
  call torch_string(output, "text")
  call check(output%as_string() == "text", "a string")
  call torch_int(inputs(1), 7_int64)
  call torch_list(output, inputs)
  call output%item(1_int64, copy)
  call check(copy%as_int() == 7, "a list")
  write (*, "(a)") "ok"

contains

  subroutine check(right, what)
    logical, intent(in) :: right
    character(len=*), intent(in) :: what
    if (right) return
    write (error_unit, "(a)") "failed: " // what
    stop 1, quiet=.true.
  end subroutine
end program
