# find_package(Torch) in a package that scikit-build-core builds: torchlink's TorchConfig.cmake, written for this build.

include("${CMAKE_CURRENT_LIST_DIR}/TorchlinkLocate.cmake")
if(_torchlink_error)
  string(REPLACE "\n" "\n  " _torchlink_error "${_torchlink_error}")
  message(FATAL_ERROR "  ${_torchlink_error}") # indented lines are not wrapped
endif()
include("${_torchlink_dir}/TorchConfig.cmake")
