# Writes torchlink's prefix for the libtorch that a Python package is built for, once in a configuration.
#
# That is TORCHLINK_LIBTORCH, else the torch of the interpreter that runs pip (or build, or uv), outside the isolated
# environment of the build. Sets _torchlink_dir, or _torchlink_error.

get_property(_torchlink_dir GLOBAL PROPERTY TORCHLINK_BUILD_DIR)
get_property(_torchlink_error GLOBAL PROPERTY TORCHLINK_BUILD_ERROR)
if(NOT _torchlink_dir AND NOT _torchlink_error)
  # The interpreter that builds the package, which has torchlink: scikit-build-core passes it.
  set(_torchlink_python python3)
  foreach(_torchlink_name IN ITEMS PYTHON_EXECUTABLE Python3_EXECUTABLE Python_EXECUTABLE)
    if(${_torchlink_name})
      set(_torchlink_python "${${_torchlink_name}}")
    endif()
  endforeach()
  set(_torchlink_choice --python front-end)
  if(NOT "$ENV{TORCHLINK_LIBTORCH}" STREQUAL "")
    set(_torchlink_choice "")
  endif()
  execute_process(
    COMMAND "${_torchlink_python}" -m torchlink cmake prefix --output "${CMAKE_BINARY_DIR}/torchlink" ${_torchlink_choice}
    RESULT_VARIABLE _torchlink_result OUTPUT_VARIABLE _torchlink_output ERROR_VARIABLE _torchlink_error)
  if(_torchlink_result EQUAL 0)
    if(_torchlink_error)
      message(STATUS "${_torchlink_error}")
    endif()
    set(_torchlink_error "")
    set(_torchlink_dir "${CMAKE_BINARY_DIR}/torchlink/share/cmake/Torch")
  elseif(NOT _torchlink_error)
    set(_torchlink_error "${_torchlink_python} -m torchlink failed: ${_torchlink_result}")
  endif()
  set_property(GLOBAL PROPERTY TORCHLINK_BUILD_DIR "${_torchlink_dir}")
  set_property(GLOBAL PROPERTY TORCHLINK_BUILD_ERROR "${_torchlink_error}")
endif()
