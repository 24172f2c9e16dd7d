# How a room, a backend and a test become targets. One INTERFACE target carries our warnings, so that they never
# reach a third party's code.

add_library(our_warnings INTERFACE)
target_compile_options(our_warnings INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Wold-style-cast -Wcast-qual -Woverloaded-virtual
  -Wconversion -Wno-sign-conversion -Wnull-dereference -Wimplicit-fallthrough -Werror
  # Options with defaults are named where they differ; that is what the defaults are for.
  -Wno-missing-field-initializers $<$<CXX_COMPILER_ID:Clang>:-Wno-missing-designated-field-initializers>)
if(IMAGECACHE_SANITIZE)
  target_compile_options(our_warnings INTERFACE -fsanitize=${IMAGECACHE_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(our_warnings INTERFACE -fsanitize=${IMAGECACHE_SANITIZE})
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  find_program(LLD NAMES ld.lld-19 ld.lld)
  if(LLD)
    target_link_options(our_warnings INTERFACE -fuse-ld=${LLD})
  endif()
endif()
target_compile_definitions(our_warnings INTERFACE
  BOOST_ASIO_NO_DEPRECATED BOOST_ASIO_DISABLE_BOOST_COROUTINE BOOST_ASIO_HAS_CO_AWAIT IMAGECACHE_VERSION="${PROJECT_VERSION}")

# room(NAME [ROOMS ...] [USES ...]): src/NAME/*.cpp as a static library named NAME.
function(room name)
  cmake_parse_arguments(ARG "" "" "ROOMS;USES" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/${name}/*.cpp)
  if(sources)
    add_library(${name} STATIC ${sources})
    target_include_directories(${name} PUBLIC ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/include)
    target_link_libraries(${name} PUBLIC ${ARG_ROOMS} PRIVATE our_warnings PUBLIC ${ARG_USES})
  else()
    add_library(${name} INTERFACE)
    target_include_directories(${name} INTERFACE ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/include)
    target_link_libraries(${name} INTERFACE ${ARG_ROOMS} ${ARG_USES})
  endif()
endfunction()

# backend(NAME [USES library...]): backends/NAME/*.cpp, which sees base and the SPI only.
function(backend name)
  cmake_parse_arguments(ARG "" "" "USES" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/backends/${name}/*.cpp)
  add_library(backend_${name} STATIC ${sources})
  target_include_directories(backend_${name} PUBLIC ${PROJECT_SOURCE_DIR})
  target_link_libraries(backend_${name} PUBLIC base ${ARG_USES} PRIVATE our_warnings)
endfunction()

# backend_table(NAMES...): the one table of drivers, which knows of each by IMAGECACHE_BACKEND_<NAME>.
function(backend_table)
  add_library(backends STATIC ${PROJECT_SOURCE_DIR}/backends/drivers.cpp)
  target_include_directories(backends PUBLIC ${PROJECT_SOURCE_DIR})
  foreach(name ${ARGN})
    target_link_libraries(backends PRIVATE backend_${name})
    string(TOUPPER ${name} upper)
    target_compile_definitions(backends PUBLIC IMAGECACHE_BACKEND_${upper})
  endforeach()
  target_link_libraries(backends PUBLIC base PRIVATE our_warnings)
endfunction()

# test_binary(NAME ROOMS... [ALONE lock filter...]): every *_test.cpp of DIR as one gtest binary. Tests that match a filter
# of ALONE share one thing, such as a small file system, and run one at a time.
function(test_binary name)
  cmake_parse_arguments(ARG "" "DIR;TIMEOUT;LABEL" "ROOMS;ALONE" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${ARG_DIR}/*_test.cpp)
  if(NOT sources)
    return()
  endif()
  add_executable(${name} ${sources})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests ${PROJECT_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE ${ARG_ROOMS} our_warnings GTest::gmock GTest::gtest_main)
  set(others "")
  while(ARG_ALONE)
    list(POP_FRONT ARG_ALONE lock filter)
    gtest_discover_tests(${name} DISCOVERY_TIMEOUT 60 TEST_FILTER "${filter}" TEST_LIST ${name}_${lock}_tests
                         PROPERTIES TIMEOUT ${ARG_TIMEOUT} LABELS ${ARG_LABEL} RESOURCE_LOCK ${lock})
    list(APPEND others "${filter}")
  endwhile()
  list(JOIN others ":" others)
  gtest_discover_tests(${name} DISCOVERY_TIMEOUT 60 TEST_FILTER "*-${others}"
                       PROPERTIES TIMEOUT ${ARG_TIMEOUT} LABELS ${ARG_LABEL})
endfunction()
