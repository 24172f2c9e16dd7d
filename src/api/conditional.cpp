#include "api/conditional.hpp"

#include "base/text.hpp"
#include "http/head.hpp"

namespace imagecache::api {
namespace {

/// All lines of a header as one list; nothing where it is absent.
std::optional<std::string> joined(const std::vector<http::Header>& headers, std::string_view name) {
  std::optional<std::string> list;
  for (const auto& [other, value] : headers) {
    if (!http::equals_ignoring_case(other, name)) continue;
    if (list) {
      list->append(", ").append(value);
    } else {
      list = value;
    }
  }
  return list;
}

/// Takes one tag, with its quotes, off the front of `list`; empty at its end or where it makes no sense.
std::string_view take_tag(std::string_view& list, bool& is_weak) {
  while (!list.empty() && (list.front() == ' ' || list.front() == '\t' || list.front() == ',')) list.remove_prefix(1);
  is_weak = list.starts_with("W/");
  if (is_weak) list.remove_prefix(2);
  if (!list.starts_with('"')) return {};
  const auto end = list.find('"', 1);
  if (end == std::string_view::npos) return {};
  const std::string_view tag = list.substr(0, end + 1);
  list.remove_prefix(end + 1);
  return tag;
}

}  // namespace

std::string entity_tag(const origin::ImageInfo& info) {
  const std::string& value = info.os_hash_value.empty() ? info.checksum : info.os_hash_value;
  for (const char c : value) {
    if (c <= ' ' || c == '"' || c > '~') return {};
  }
  return value.empty() ? std::string() : '"' + value + '"';
}

bool tag_listed(std::string_view list, std::string_view tag, bool weak) {
  if (base::trim(list) == "*") return true;
  if (tag.empty()) return false;
  for (;;) {
    bool is_weak = false;
    const std::string_view next = take_tag(list, is_weak);
    if (next.empty()) return false;
    if (next == tag && (weak || !is_weak)) return true;
  }
}

Precondition check_preconditions(const std::vector<http::Header>& headers, std::string_view tag) {
  if (const auto list = joined(headers, "If-Match"); list && !tag_listed(*list, tag, false)) {
    return Precondition::failed;
  }
  if (const auto list = joined(headers, "If-None-Match"); list && tag_listed(*list, tag, true)) {
    return Precondition::not_modified;
  }
  return Precondition::none;
}

bool range_holds(std::string_view if_range, std::string_view tag) {
  if_range = base::trim(if_range);
  return if_range.empty() || (!tag.empty() && if_range == tag);
}

}  // namespace imagecache::api
