# torchlink_lint(<target> [POST_BUILD] [TEST] [ARGS <option>...])
#
# Lints the program or shared library of a target with `torchlink lint`, which reads it and does not run it.
#
#   POST_BUILD  after each link; a finding at or above --fail-on (error by default) fails the build. This is the
#               default. The target must be defined in the same directory.
#   TEST        as the test `torchlink-lint.<target>`, for ctest; warns if enable_testing() is not called.
#   ARGS        options for `torchlink lint`, such as --fail-on warning or --target debian:12.
#
# The program in the build tree is checked, whose rpath is absolute until `install` rewrites it. Suppress that with ARGS --ignore "rpath-*", or lint the installed program.
#
# TORCHLINK_EXECUTABLE (cache): the torchlink to use, or a command as a list such as "/usr/bin/python3;-m;torchlink".
# By default torchlink is searched on PATH. Requires CMake 3.18.

include_guard(GLOBAL)

# _torchlink_testing(TARGET DIRECTORY): warn if a test of this directory would not run.
function(_torchlink_testing target directory)
  get_directory_property(here DIRECTORY "${directory}" DEFINITION CMAKE_TESTING_ENABLED)
  get_directory_property(top DIRECTORY "${CMAKE_SOURCE_DIR}" DEFINITION CMAKE_TESTING_ENABLED)
  if(NOT here OR NOT top)
    message(WARNING "torchlink_lint(${target} TEST): ctest does not run this test, because testing is not enabled. Call "
      "enable_testing() in ${CMAKE_SOURCE_DIR}/CMakeLists.txt, before any add_subdirectory().")
  endif()
endfunction()

function(torchlink_lint target)
  cmake_parse_arguments(PARSE_ARGV 1 arg "POST_BUILD;TEST" "" "ARGS")
  if(DEFINED arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "torchlink_lint(${target}): unknown arguments: ${arg_UNPARSED_ARGUMENTS}. "
      "It takes POST_BUILD, TEST and ARGS <option>...")
  endif()
  if(NOT TARGET ${target})
    message(FATAL_ERROR "torchlink_lint(${target}): no such target.")
  endif()
  get_target_property(aliased ${target} ALIASED_TARGET)
  if(aliased)
    set(target ${aliased})
  endif()
  get_target_property(type ${target} TYPE)
  get_target_property(imported ${target} IMPORTED)
  if(imported OR NOT type MATCHES "^(EXECUTABLE|SHARED_LIBRARY|MODULE_LIBRARY)$")
    message(FATAL_ERROR "torchlink_lint(${target}): only a program, a SHARED or a MODULE library that this project "
      "builds has a file to lint; this is ${type}.")
  endif()
  if(NOT TORCHLINK_EXECUTABLE) # find_program() would turn the arguments of a command into paths
    find_program(TORCHLINK_EXECUTABLE NAMES torchlink DOC "The torchlink that torchlink_lint() runs")
    mark_as_advanced(TORCHLINK_EXECUTABLE)
  endif()
  if(NOT TORCHLINK_EXECUTABLE)
    message(FATAL_ERROR "torchlink_lint(${target}): torchlink is not on PATH. Install it (pip install torchlink) or "
      "configure with -DTORCHLINK_EXECUTABLE=/path/to/torchlink.")
  endif()

  if(arg_TEST)
    if(CMAKE_VERSION VERSION_LESS 3.19)
      _torchlink_testing(${target} "${CMAKE_CURRENT_SOURCE_DIR}")
    else() # enable_testing() may be called later in the same file
      cmake_language(EVAL CODE
        "cmake_language(DEFER DIRECTORY [==[${CMAKE_SOURCE_DIR}]==] CALL _torchlink_testing [==[${target}]==] [==[${CMAKE_CURRENT_SOURCE_DIR}]==])")
    endif()
    add_test(NAME torchlink-lint.${target}
      COMMAND ${TORCHLINK_EXECUTABLE} lint ${arg_ARGS} -- $<TARGET_FILE:${target}>)
  endif()
  if(arg_POST_BUILD OR NOT arg_TEST)
    get_target_property(directory ${target} SOURCE_DIR)
    if(NOT directory STREQUAL CMAKE_CURRENT_SOURCE_DIR)
      message(FATAL_ERROR "torchlink_lint(${target} POST_BUILD) must be called in ${directory}/CMakeLists.txt, where the "
        "target is defined: CMake allows a build step only there. TEST works anywhere.")
    endif()
    add_custom_command(TARGET ${target} POST_BUILD
      COMMAND ${TORCHLINK_EXECUTABLE} lint ${arg_ARGS} -- $<TARGET_FILE:${target}>
      COMMENT "Linting ${target} with torchlink" VERBATIM)
  endif()
endfunction()
