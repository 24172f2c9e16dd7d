// JSON in and out, without exceptions: what comes from outside is parsed and looked at through these helpers only.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "imagecache/error.hpp"

namespace imagecache::api {

/// For answers: keys stay in the order written, as Cinder's do.
using Json = nlohmann::ordered_json;
/// For requests: lookups stay cheap however many keys a client sends.
using JsonIn = nlohmann::json;

/// Never fails: bytes that are no UTF-8 become U+FFFD.
std::string dump(const Json& json);

/// The body as a JSON object; Errc::invalid_argument in Cinder's words else.
Result<JsonIn> parse_object(std::string_view body);

/// The member, or null if it is absent, `object` is no object, or the member is JSON null: clients send null for
/// what they do not use.
const JsonIn* member(const JsonIn& object, std::string_view key);
/// A string member; nullopt if absent. Errc::invalid_argument, naming the attribute, if it is no string or longer than
/// `max_length` characters. Blanks around it are dropped.
Result<std::optional<std::string>> string_member(const JsonIn& object, std::string_view key, std::size_t max_length);
/// A boolean member; JSON booleans and the strings and numbers that OpenStack takes for one.
Result<std::optional<bool>> bool_member(const JsonIn& object, std::string_view key);
/// A whole number from 1 on, as a number or as a string of digits. The messages are those that clients' tests look for:
/// "Invalid input for field/attribute size. Value: 0. 0 is less than the minimum of 1".
Result<std::optional<std::uint64_t>> size_member(const JsonIn& object, std::string_view key);
/// An object of strings with keys and values of at most 255 characters, no empty key.
Result<std::map<std::string, std::string>> string_map(const JsonIn& object, std::string_view attribute);
/// The same as a member; nullopt if absent.
Result<std::optional<std::map<std::string, std::string>>> map_member(const JsonIn& object, std::string_view key);

/// "true", "1", "yes", "on"… as oslo.utils reads them; nullopt for what is neither true nor false.
std::optional<bool> parse_bool(std::string_view text);

/// null for an empty string.
Json or_null(const std::string& text);

}  // namespace imagecache::api
