# Boost's headers (Asio, Beast) as one target, with OpenSSL where there is one. No
# library of Boost is linked.
find_path(MLXLM_BOOST_INCLUDE boost/beast/version.hpp REQUIRED)
file(STRINGS "${MLXLM_BOOST_INCLUDE}/boost/version.hpp" boost_version
     REGEX "#define BOOST_VERSION ")
string(REGEX MATCH "[0-9]+" boost_version "${boost_version}")
if(boost_version LESS 107400)
  message(FATAL_ERROR "Boost: expected 1.74 or newer, found ${boost_version}")
endif()
add_library(mlxlm_boost INTERFACE)
target_include_directories(mlxlm_boost SYSTEM INTERFACE "${MLXLM_BOOST_INCLUDE}")
# Asio keeps a thread's freed coroutine frames and operations for its next ones. Clang
# (16, seen with ASan) takes the address of such a thread's own variable once, before a
# coroutine is suspended, and uses it after it goes on in another thread: two threads
# then take from one list. The allocator of the C library does as well.
target_compile_definitions(mlxlm_boost INTERFACE BOOST_ASIO_NO_DEPRECATED
                                                 BOOST_ASIO_DISABLE_AWAITABLE_FRAME_RECYCLING
                                                 BOOST_ASIO_DISABLE_SMALL_BLOCK_RECYCLING)
if(CMAKE_CXX_COMPILER_ID MATCHES "Clang" AND boost_version LESS 107700)
  # It does not yet see that Clang has coroutines.
  target_compile_definitions(mlxlm_boost INTERFACE BOOST_ASIO_HAS_CO_AWAIT
                                                   BOOST_ASIO_HAS_STD_COROUTINE)
endif()
find_package(OpenSSL 1.1.1 QUIET)
if(OpenSSL_FOUND)
  target_link_libraries(mlxlm_boost INTERFACE OpenSSL::SSL)
  target_compile_definitions(mlxlm_boost INTERFACE MLXLM_TLS)
endif()
