include("${CMAKE_CURRENT_LIST_DIR}/TorchlinkLocate.cmake")
if(_torchlink_error)
  set(PACKAGE_VERSION_COMPATIBLE TRUE) # TorchConfig.cmake gives the reason
else()
  include("${_torchlink_dir}/TorchConfigVersion.cmake")
endif()
