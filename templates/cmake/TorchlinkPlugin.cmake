# torchlink_add_plugin(<target> <source>... [WHOLE_ARCHIVE <library>...])
#
# A shared library that a program opens with dlopen: lib<target>.so, linked to libtorch. An undefined symbol is an error of
# the linker, and not of dlopen in the program that opens it.
#
#   WHOLE_ARCHIVE  static libraries, as targets or files, of which all objects are linked, also those that nothing references
#                  because they only register operators.
#
# To add to it: target_link_libraries(<target> PRIVATE …), with PRIVATE or PUBLIC.

include_guard(GLOBAL)

function(torchlink_add_plugin target)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "WHOLE_ARCHIVE")
  if(NOT arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "torchlink_add_plugin(${target}): no sources. "
      "It takes <target> <source>... [WHOLE_ARCHIVE <library>...]")
  endif()
  add_library(${target} MODULE ${arg_UNPARSED_ARGUMENTS})
  if(CMAKE_SYSTEM_NAME STREQUAL "Linux") # elsewhere undefined symbols are an error by default
    target_link_options(${target} PRIVATE LINKER:-z,defs "LINKER:-soname,$<TARGET_FILE_NAME:${target}>")
  endif()
  foreach(library IN LISTS arg_WHOLE_ARCHIVE)
    set(file "${library}")
    if(TARGET "${library}")
      get_target_property(type ${library} TYPE)
      if(NOT type STREQUAL "STATIC_LIBRARY")
        message(FATAL_ERROR "torchlink_add_plugin(${target} WHOLE_ARCHIVE ${library}): only a static library can be linked "
          "whole; this is ${type}.")
      endif()
      set(file "$<TARGET_FILE:${library}>")
    else()
      get_filename_component(file "${library}" ABSOLUTE)
      set_property(TARGET ${target} APPEND PROPERTY LINK_DEPENDS "${file}")
    endif()
    # One item, because CMake merges repeated flags.
    if(MSVC)
      set(item "-WHOLEARCHIVE:\"${file}\"")
    elseif(APPLE)
      set(item "-Wl,-force_load,\"${file}\"")
    else()
      set(item "-Wl,--push-state,--whole-archive,\"${file}\",--pop-state")
    endif()
    target_link_libraries(${target} PRIVATE "${item}")
    if(TARGET "${library}") # for its headers, and for what it links itself
      target_link_libraries(${target} PRIVATE ${library})
    endif()
  endforeach()
  target_link_libraries(${target} PRIVATE ${TORCH_LIBRARIES})
endfunction()
