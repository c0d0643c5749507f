# torchlink_add_python_module(<target> <source>... [TENSORS | STABLE_ABI <version>] [DESTINATION <directory>]
#                             [LIBRARIES <library>...]): a Python extension module that uses libtorch.
#
#   TENSORS      torch.Tensor crosses between Python and C++: links libtorch_python, and uses the copy of pybind11 in
#                torch's headers, for which torch's own type casters are written
#   STABLE_ABI   uses only torch's stable C++ interface (torch/csrc/stable) of this version, as 2.10, and Python's limited
#                API (3.10): the module works with all later versions of both
#   DESTINATION  install it there, relative to the directory that has torch/ too (site-packages): "." or a package's name
#   LIBRARIES    linked before libtorch, so that their headers come before the copies of such headers that torch contains
#
# The module has Python's headers but not libpython, and of libtorch's libraries only those that it uses. Installed, it finds
# them in torch/lib, relative to itself; a libtorch outside site-packages it finds where that is now.

include_guard(GLOBAL)

function(torchlink_add_python_module target)
  cmake_parse_arguments(PARSE_ARGV 1 arg "TENSORS" "STABLE_ABI;DESTINATION" "LIBRARIES")
  if(arg_TENSORS AND arg_STABLE_ABI)
    message(FATAL_ERROR "torchlink_add_python_module(${target}): TENSORS uses torch's headers that are not stable, so it "
      "cannot be combined with STABLE_ABI; torch/csrc/stable/tensor.h has a tensor of its own.")
  endif()
  if(arg_TENSORS AND NOT TARGET torch_python)
    message(FATAL_ERROR "torchlink_add_python_module(${target} TENSORS): ${TORCH_INSTALL_PREFIX} has no libtorch_python, "
      "which only a torch for Python has. Use one that pip installed.")
  endif()
  _torchlink_find_python()
  if(NOT TARGET Python::Module)
    message(FATAL_ERROR "torchlink_add_python_module(${target}): the headers of ${Python_EXECUTABLE} were not found. "
      "Install them (Debian: python3-dev), or name another interpreter with -DPython_EXECUTABLE=.")
  endif()

  add_library(${target} MODULE ${arg_UNPARSED_ARGUMENTS})
  target_link_libraries(${target} PRIVATE ${arg_LIBRARIES} Python::Module)
  set_target_properties(${target} PROPERTIES
    TORCHLINK_PYTHON_MODULE TRUE PREFIX "" CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
  if(arg_STABLE_ABI)
    string(REGEX MATCH "^([0-9]+)[.]([0-9]+)" matched "${arg_STABLE_ABI}")
    if(NOT matched OR arg_STABLE_ABI VERSION_LESS 2.9)
      message(FATAL_ERROR "torchlink_add_python_module(${target}): STABLE_ABI ${arg_STABLE_ABI} is not a version of torch "
        "from 2.9 on, such as 2.10.")
    endif()
    math(EXPR version "(${CMAKE_MATCH_1} << 56) | (${CMAKE_MATCH_2} << 48)" OUTPUT_FORMAT HEXADECIMAL)
    target_compile_definitions(${target} PRIVATE TORCH_TARGET_VERSION=${version}ULL Py_LIMITED_API=0x030a0000)
    set(suffix ".abi3")
  else()
    set(suffix ".${Python_SOABI}")
  endif()
  if(WIN32)
    set_target_properties(${target} PROPERTIES SUFFIX "${suffix}.pyd")
  else()
    set_target_properties(${target} PROPERTIES SUFFIX "${suffix}.so")
  endif()

  if(CMAKE_CXX_COMPILER_ID MATCHES "GNU|Clang") # torch's error messages name source files, also in its headers
    foreach(place IN ITEMS "${CMAKE_CURRENT_SOURCE_DIR}=." "${TORCH_INSTALL_PREFIX}=torch")
      target_compile_options(${target} PRIVATE "$<$<COMPILE_LANGUAGE:CXX>:-fmacro-prefix-map=${place}>")
    endforeach()
  endif()

  get_property(libraries GLOBAL PROPERTY TORCHLINK_EXTENSION_LIBRARIES)
  if(arg_STABLE_ABI) # only the library with the stable interface; the targets would add others
    target_include_directories(${target} SYSTEM PRIVATE ${TORCH_INCLUDE_DIRS})
    get_property(standard GLOBAL PROPERTY TORCHLINK_STANDARD)
    target_compile_features(${target} PRIVATE cxx_std_${standard})
    set(libraries "${TORCH_LIBRARY}")
  elseif(arg_TENSORS) # by its path: the target would keep libraries that Python has loaded already
    target_link_libraries(${target} PRIVATE "$<TARGET_FILE:torch_python>")
    target_compile_definitions(${target} PRIVATE TORCH_EXTENSION_NAME=${target})
  endif()
  target_link_libraries(${target} PRIVATE ${libraries})
  if(CMAKE_SYSTEM_NAME STREQUAL "Linux")
    target_link_options(${target} PRIVATE LINKER:--as-needed)
  endif()
  _torchlink_python_rpath(${target} "${arg_DESTINATION}")
  if(arg_DESTINATION)
    install(TARGETS ${target} DESTINATION "${arg_DESTINATION}")
  endif()
endfunction()

# _torchlink_find_python(): find the headers of the interpreter that the project names, else of the one that torch is for.
macro(_torchlink_find_python)
  get_property(_torchlink_python GLOBAL PROPERTY TORCHLINK_PYTHON)
  if(NOT DEFINED Python_EXECUTABLE AND NOT DEFINED Python_ROOT_DIR)
    if(DEFINED Python3_EXECUTABLE)
      set(Python_EXECUTABLE "${Python3_EXECUTABLE}")
    elseif(_torchlink_python)
      set(Python_EXECUTABLE "${_torchlink_python}")
    endif()
  endif()
  find_package(Python 3 QUIET COMPONENTS Interpreter Development.Module)
endmacro()

# _torchlink_python_rpath(TARGET DESTINATION): the search path of the installed module.
function(_torchlink_python_rpath target destination)
  get_property(directory GLOBAL PROPERTY TORCHLINK_LIBRARY_DIR)
  get_property(python GLOBAL PROPERTY TORCHLINK_PYTHON)
  string(REGEX REPLACE "/bin/[^/]*$" "" environment "${python}")
  # libtorch as seen from site-packages.
  set(beside "")
  if(directory MATCHES "/(site|dist)-packages/torch/lib$")
    set(beside "torch/lib")
  elseif(EXISTS "${environment}/conda-meta" AND directory STREQUAL "${environment}/lib")
    set(beside "../..") # from lib/python3.N/site-packages
  endif()
  set(rpath "${directory}")
  if(beside)
    # scikit-build-core installs into a copy of site-packages, or into a directory below it (wheel.install-dir).
    set(site "${CMAKE_INSTALL_PREFIX}")
    if(SKBUILD_PLATLIB_DIR)
      set(site "${SKBUILD_PLATLIB_DIR}")
    endif()
    get_filename_component(installed "${destination}" ABSOLUTE BASE_DIR "${CMAKE_INSTALL_PREFIX}")
    file(RELATIVE_PATH relative "${installed}" "${site}/${beside}")
    string(REGEX REPLACE "/$" "" relative "${relative}")
    set(rpath "$ORIGIN/${relative}")
    if(APPLE)
      set(rpath "@loader_path/${relative}")
    endif()
  elseif(directory MATCHES "^(/usr)?/lib")
    set(rpath "") # a directory of the system's
  else()
    message(STATUS "Torch: ${target} finds libtorch in ${directory} when it is installed, because that is no torch in a "
      "site-packages directory: it works on this machine only")
  endif()
  set_target_properties(${target} PROPERTIES INSTALL_RPATH "${rpath}" INSTALL_RPATH_USE_LINK_PATH OFF)
endfunction()
