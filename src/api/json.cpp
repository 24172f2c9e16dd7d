#include "api/json.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "base/text.hpp"
#include "base/try.hpp"

namespace imagecache::api {
namespace {

constexpr std::uint64_t max_size = 2147483647;  // Cinder's database column
constexpr std::size_t max_map_text = 255;

/// As Python shows it in a message: text in single quotes.
std::string shown(const JsonIn& value) {
  if (value.is_string()) return "'" + value.get<std::string>() + "'";
  if (value.is_boolean()) return value.get<bool>() ? "True" : "False";
  if (value.is_null()) return "None";
  return value.dump(-1, ' ', false, JsonIn::error_handler_t::replace);
}

std::string shown_plain(const JsonIn& value) {
  return value.is_string() ? value.get<std::string>() : shown(value);
}

std::unexpected<Error> invalid(std::string_view attribute, const JsonIn& value, std::string_view why) {
  return fail(Errc::invalid_argument, fmt::format("Invalid input for field/attribute {}. Value: {}. {} {}", attribute,
                                                  shown_plain(value), shown(value), why));
}

/// Characters, not bytes.
std::size_t length_of(std::string_view text) {
  return static_cast<std::size_t>(
      std::ranges::count_if(text, [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

}  // namespace

std::string dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Result<JsonIn> parse_object(std::string_view body) {
  JsonIn json = JsonIn::parse(body.begin(), body.end(), nullptr, false);
  if (json.is_discarded()) return fail(Errc::invalid_argument, "Malformed message body: cannot understand JSON");
  if (!json.is_object()) return fail(Errc::invalid_argument, "Malformed message body: a JSON object is needed");
  return json;
}

const JsonIn* member(const JsonIn& object, std::string_view key) {
  if (!object.is_object()) return nullptr;
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

Result<std::optional<std::string>> string_member(const JsonIn& object, std::string_view key, std::size_t max_length) {
  const JsonIn* value = member(object, key);
  if (value == nullptr) return std::optional<std::string>();
  if (!value->is_string()) return invalid(key, *value, "is not of type 'string', 'null'");
  std::string text(base::trim(value->get_ref<const std::string&>()));
  if (length_of(text) > max_length) return invalid(key, *value, "is too long");
  return std::optional<std::string>(std::move(text));
}

Result<std::optional<bool>> bool_member(const JsonIn& object, std::string_view key) {
  const JsonIn* value = member(object, key);
  if (value == nullptr) return std::optional<bool>();
  if (value->is_boolean()) return std::optional<bool>(value->get<bool>());
  if (value->is_string() || value->is_number_integer()) {
    if (const auto parsed = parse_bool(shown_plain(*value))) return parsed;
  }
  return invalid(key, *value, "is not of type 'boolean'");
}

Result<std::optional<std::uint64_t>> size_member(const JsonIn& object, std::string_view key) {
  const JsonIn* value = member(object, key);
  if (value == nullptr) return std::optional<std::uint64_t>();
  std::uint64_t size = 0;
  if (value->is_string()) {
    const auto& text = value->get_ref<const std::string&>();
    const bool digits = !text.empty() && std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
    // A negative number as a string gets the message that the number would.
    if (!digits && text.size() > 1 && text[0] == '-' && base::parse_unsigned(std::string_view(text).substr(1))) {
      return fail(Errc::invalid_argument,
                  fmt::format("Invalid input for field/attribute {}. Value: {}. {} is less than the minimum of 1", key,
                              text, text));
    }
    if (!digits) return invalid(key, *value, "does not match '^[0-9]+$'");
    size = base::parse_unsigned(text).value_or(max_size + 1);
  } else if (value->is_number_unsigned()) {
    size = value->get<std::uint64_t>();
  } else if (!value->is_number_integer()) {
    return invalid(key, *value, "is not of type 'integer', 'string'");
  }
  const std::string text = shown_plain(*value);
  if (size < 1) {
    return fail(Errc::invalid_argument,
                fmt::format("Invalid input for field/attribute {}. Value: {}. {} is less than the minimum of 1", key,
                            text, text));
  }
  if (size > max_size) {
    return fail(Errc::invalid_argument,
                fmt::format("Invalid input for field/attribute {}. Value: {}. {} is greater than the maximum of {}",
                            key, text, text, max_size));
  }
  return std::optional<std::uint64_t>(size);
}

Result<std::map<std::string, std::string>> string_map(const JsonIn& object, std::string_view attribute) {
  if (!object.is_object()) return invalid(attribute, object, "is not of type 'object'");
  std::map<std::string, std::string> map;
  for (const auto& [key, value] : object.items()) {
    if (key.empty() || length_of(key) > max_map_text) {
      return fail(Errc::invalid_argument, fmt::format("Invalid input for field/attribute {}. Value: {}. A key must "
                                                      "have 1 to {} characters",
                                                      attribute, key, max_map_text));
    }
    if (!value.is_string()) return invalid(attribute, value, "is not of type 'string'");
    const auto& text = value.get_ref<const std::string&>();
    if (length_of(text) > max_map_text) return invalid(attribute, value, "is too long");
    map.emplace(key, text);
  }
  return map;
}

Result<std::optional<std::map<std::string, std::string>>> map_member(const JsonIn& object, std::string_view key) {
  const JsonIn* value = member(object, key);
  if (value == nullptr) return std::optional<std::map<std::string, std::string>>();
  IMAGECACHE_TRY(auto map, string_map(*value, key));
  return std::optional<std::map<std::string, std::string>>(std::move(map));
}

std::optional<bool> parse_bool(std::string_view text) {
  const std::string word = base::to_lower(base::trim(text));
  for (const std::string_view yes : {"1", "t", "true", "on", "y", "yes"}) {
    if (word == yes) return true;
  }
  for (const std::string_view no : {"0", "f", "false", "off", "n", "no"}) {
    if (word == no) return false;
  }
  return std::nullopt;
}

Json or_null(const std::string& text) {
  return text.empty() ? Json(nullptr) : Json(text);
}

}  // namespace imagecache::api
