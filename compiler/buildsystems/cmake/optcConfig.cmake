# The CMake package of optc. In a project:
#
#   cmake -G Ninja -Doptc_DIR="$(optc where cmake)" ..
#
#   find_package(optc REQUIRED)
#   optc_compile(NAME det RECIPE det.yaml TARGETS cascadelake sapphirerapids)
#   add_dependencies(server det)
#
# optc_compile(NAME <name> RECIPE <file>
#              [TARGETS <cpu>...]      instead of those of the recipe
#              [OUTPUT <folder>]       default: <name> in the current binary folder
#              [SET <path=value>...]   override values of the recipe
#              [OPTIONS <option>...]   more options of `optc compile`, e.g. --no-cache
#              [NO_VERIFY]             do not compare the result with the source model
#              [EXCLUDE_FROM_ALL])     build it only when something depends on it
#
# makes the target <name>, which is built again when the recipe, or any file that optc read for it,
# changes: recipes that it extends, the model and its external data, data, target descriptors.
# The properties OPTC_OUTPUT and OPTC_MANIFEST of <name> tell where the result lies.

cmake_minimum_required(VERSION 3.20) # depfiles with every generator used here
include_guard(GLOBAL)

# Installed in an environment, this file lies in <environment>/lib/python3.x/site-packages/optc/...
get_filename_component(_optc_environment "${CMAKE_CURRENT_LIST_DIR}/../../../../../.." ABSOLUTE)
find_program(optc_EXECUTABLE optc HINTS "${_optc_environment}/bin" DOC "The compiler of models")
unset(_optc_environment)
if(NOT optc_EXECUTABLE)
  set(optc_FOUND FALSE)
  set(optc_NOT_FOUND_MESSAGE "the program optc was not found: set optc_EXECUTABLE")
  return()
endif()

function(optc_compile)
  cmake_parse_arguments(PARSE_ARGV 0 arg
    "NO_VERIFY;EXCLUDE_FROM_ALL" "NAME;RECIPE;OUTPUT" "TARGETS;SET;OPTIONS")
  if(arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "optc_compile: unknown arguments: ${arg_UNPARSED_ARGUMENTS}")
  endif()
  foreach(needed NAME RECIPE)
    if(NOT arg_${needed})
      message(FATAL_ERROR "optc_compile: ${needed} is missing")
    endif()
  endforeach()

  get_filename_component(recipe "${arg_RECIPE}" ABSOLUTE BASE_DIR "${CMAKE_CURRENT_SOURCE_DIR}")
  if(NOT arg_OUTPUT)
    set(arg_OUTPUT "${arg_NAME}")
  endif()
  get_filename_component(output "${arg_OUTPUT}" ABSOLUTE BASE_DIR "${CMAKE_CURRENT_BINARY_DIR}")

  set(options "")
  foreach(target IN LISTS arg_TARGETS)
    list(APPEND options --target "${target}")
  endforeach()
  foreach(setting IN LISTS arg_SET)
    list(APPEND options --set "${setting}")
  endforeach()
  if(arg_NO_VERIFY)
    list(APPEND options --no-verify)
  endif()
  list(APPEND options ${arg_OPTIONS})
  set(all ALL)
  if(arg_EXCLUDE_FROM_ALL)
    set(all "")
  endif()

  set(depfile "${CMAKE_CURRENT_BINARY_DIR}/${arg_NAME}.optc.d")
  get_filename_component(above "${output}" DIRECTORY)
  file(MAKE_DIRECTORY "${above}")
  add_custom_command(
    OUTPUT "${output}/manifest.json"
    COMMAND "${optc_EXECUTABLE}" compile "${recipe}" --output "${output}" --quiet
            --depfile "${depfile}" ${options}
    DEPENDS "${recipe}"
    DEPFILE "${depfile}"
    WORKING_DIRECTORY "${CMAKE_CURRENT_BINARY_DIR}"
    COMMENT "optc: ${arg_NAME}"
    VERBATIM)
  add_custom_target("${arg_NAME}" ${all} DEPENDS "${output}/manifest.json")
  set_target_properties("${arg_NAME}" PROPERTIES
    OPTC_OUTPUT "${output}"
    OPTC_MANIFEST "${output}/manifest.json"
    # The whole folder: optc replaces no folder whose manifest is gone.
    ADDITIONAL_CLEAN_FILES "${output}")
endfunction()
