// What Glance's filters are called, from Diablo to today. Private to the room.
#pragma once

#include <string_view>

namespace imagecache::config {

enum class Filter {
  unknown,
  other,  ///< one of Glance's or Oslo's that has nothing to do with the cache or with who asks
  cache,
  cache_manage,
  auth_token,
  healthcheck,
};

/// By a factory: "package.module:Class.factory", or "egg:Distribution#name".
Filter filter_of_factory(std::string_view factory);
/// By the name that Glance's own files give the section.
Filter filter_of_name(std::string_view name);

}  // namespace imagecache::config
