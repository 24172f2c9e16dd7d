// Passing a failure on. `IMAGECACHE_TRY(auto fd, open(path))` declares fd or returns the error; the CO_ form is for
// coroutines. IMAGECACHE_CHECK drops the value.
#pragma once

#include "imagecache/error.hpp"

#define IMAGECACHE_JOIN_(a, b) a##b
#define IMAGECACHE_JOIN(a, b) IMAGECACHE_JOIN_(a, b)

#define IMAGECACHE_TRY_(tmp, declaration, ret, ...)      \
  auto tmp = (__VA_ARGS__);                              \
  if (!tmp) ret std::unexpected(std::move(tmp).error()); \
  declaration = std::move(*tmp)
#define IMAGECACHE_CHECK_(tmp, ret, ...) \
  if (auto tmp = (__VA_ARGS__); !tmp) ret std::unexpected(std::move(tmp).error())

#define IMAGECACHE_TRY(declaration, ...) \
  IMAGECACHE_TRY_(IMAGECACHE_JOIN(try_result_, __LINE__), declaration, return, __VA_ARGS__)
#define IMAGECACHE_CO_TRY(declaration, ...) \
  IMAGECACHE_TRY_(IMAGECACHE_JOIN(try_result_, __LINE__), declaration, co_return, __VA_ARGS__)
#define IMAGECACHE_CHECK(...) IMAGECACHE_CHECK_(IMAGECACHE_JOIN(check_result_, __LINE__), return, __VA_ARGS__)
#define IMAGECACHE_CO_CHECK(...) IMAGECACHE_CHECK_(IMAGECACHE_JOIN(check_result_, __LINE__), co_return, __VA_ARGS__)
