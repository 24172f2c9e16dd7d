// The one table of options, put together from options_*.cpp. It drives parsing, messages, `config show` and
// cinder.conf.sample, so that an option is written down once. What Cinder or Glance has a name for has that name,
// section, type and default here.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "imagecache/error.hpp"

namespace imagecache::config {

enum class Type {
  boolean,       ///< true/false, yes/no, on/off, 1/0 → bool
  integer,       ///< → int64
  size,          ///< bytes, also "64 MiB", "10G" (powers of 1024) → int64; only for options that are ours alone
  real,          ///< → double
  string,        ///< → string
  list,          ///< comma-separated → vector of strings
  multi,         ///< oslo.config's MultiStrOpt: each time that it is given counts → vector of strings
  path,          ///< → string; absolute
  bind_address,  ///< → string, checked by parse_bind_address
  origins,       ///< list of http(s):// URLs, or one file:///directory → vector of strings
};

using Value = std::variant<bool, std::int64_t, double, std::string, std::vector<std::string>>;

/// Stands for the sections that enabled_backends names, and for [backend_defaults].
inline constexpr std::string_view backend_scope = "<backend>";
inline constexpr std::string_view own_section = "image_cache_service";
inline constexpr std::string_view paste_section = "paste_deploy";
inline constexpr std::string_view authtoken_section = "keystone_authtoken";
inline constexpr std::string_view service_user_section = "service_user";
inline constexpr std::string_view notifications_section = "oslo_messaging_notifications";
inline constexpr std::string_view rabbit_section = "oslo_messaging_rabbit";

struct Option {
  std::string_view section;
  std::string_view name;
  Type type = Type::string;
  std::optional<std::string_view> default_text = std::nullopt;  ///< as a file would have it, `$option` included
  std::string_view unit = {};
  std::int64_t min = std::numeric_limits<std::int64_t>::min();
  std::int64_t max = std::numeric_limits<std::int64_t>::max();
  std::string_view choices = {};  ///< "a,b": the only values, whatever their case; empty: any
  bool secret = false;            ///< never shown
  std::string_view old_name = {};
  std::string_view help = {};  ///< meaning and risk, in a sentence or two
  /// Glance has an option of the same section and name that means something else: such a value is passed over.
  bool (*is_somebody_elses)(std::string_view value) = nullptr;
};

/// Grouped by section in the order of the sample.
std::span<const Option> options();
/// nullptr: not one of ours. `section` may be backend_scope.
const Option* find_option(std::string_view section, std::string_view name);
/// Names in `section` that `name` may have been meant for, best first; at most three.
std::vector<std::string> near_matches(std::string_view section, std::string_view name);

/// nullopt: as if not set (an empty number). The error says what is allowed: "must be a whole number from 0 to 9".
Result<std::optional<Value>> parse_value(const Option& option, std::string_view text);
/// For people and for `config show`: lists comma-separated.
std::string format_value(const Value& value);
/// "a whole number from 0 to 65535", "true or false", …
std::string describe_allowed(const Option& option);

}  // namespace imagecache::config
