#include "api/list_query.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "base/text.hpp"
#include "base/try.hpp"

namespace imagecache::api {
namespace {

constexpr std::array<std::string_view, 17> filter_names = {"id",
                                                           "name",
                                                           "display_name",
                                                           "status",
                                                           "metadata",
                                                           "bootable",
                                                           "size",
                                                           "user_id",
                                                           "project_id",
                                                           "migration_status",
                                                           "availability_zone",
                                                           "group_id",
                                                           "tenant_id",
                                                           "created_at",
                                                           "consumes_quota",
                                                           "updated_at",
                                                           "host"};
constexpr std::array<std::string_view, 9> sort_names = {
    "id", "status", "size", "availability_zone", "created_at", "name", "display_name", "bootable", "updated_at"};
constexpr std::array<std::string_view, 9> paging_names = {"limit",    "marker",      "offset",     "sort",  "sort_key",
                                                          "sort_dir", "all_tenants", "with_count", "fields"};

template <std::size_t n>
bool is_one_of(const std::array<std::string_view, n>& names, std::string_view name) {
  return std::ranges::find(names, name) != names.end();
}

Result<std::uint64_t> number(const http::PathParameters& query, std::string_view name, std::uint64_t otherwise) {
  const auto found = query.find(name);
  if (found == query.end() || found->second.empty()) return otherwise;
  const auto value = base::parse_unsigned(found->second);
  if (!value) {
    return fail(Errc::invalid_argument,
                fmt::format("Invalid input for query parameters {0}. Value: {1}. '{1}' does not match '^[0-9]*$'", name,
                            found->second));
  }
  return *value;
}

Result<void> add_sort_key(std::vector<SortKey>& sort, std::string_view key, std::string_view direction) {
  if (!is_one_of(sort_names, key)) {
    return fail(Errc::invalid_argument, fmt::format("Invalid input received: {} is an invalid sort key.", key));
  }
  if (direction != "asc" && direction != "desc") {
    return fail(Errc::invalid_argument, "Invalid input received: Invalid sort direction, must be one of asc, desc.");
  }
  sort.push_back({std::string(key), direction == "desc"});
  return {};
}

Result<std::vector<SortKey>> parse_sort(const http::PathParameters& query) {
  std::vector<SortKey> sort;
  const auto keys = query.find("sort");
  const auto legacy_key = query.find("sort_key");
  const auto legacy_dir = query.find("sort_dir");
  const bool legacy = legacy_key != query.end() || legacy_dir != query.end();
  if (keys != query.end() && legacy) {
    return fail(Errc::invalid_argument,
                "Invalid input received: The 'sort_key' and 'sort_dir' parameters are deprecated and cannot be used "
                "with the 'sort' parameter.");
  }
  if (legacy) {
    IMAGECACHE_CHECK(add_sort_key(sort, legacy_key == query.end() ? "created_at" : base::trim(legacy_key->second),
                                  legacy_dir == query.end() ? "desc" : base::trim(legacy_dir->second)));
    return sort;
  }
  if (keys == query.end() || keys->second.empty()) return sort;
  for (const std::string& part : base::split(keys->second, ',')) {
    const auto colon = part.find(':');
    IMAGECACHE_CHECK(
        add_sort_key(sort, base::trim(std::string_view(part).substr(0, colon)),
                     colon == std::string::npos ? "desc" : base::trim(std::string_view(part).substr(colon + 1))));
  }
  return sort;
}

/// "{'k': 'v', "a": u'b'}", a Python dict literal of strings, as clients send metadata filters; nullopt if it is none.
std::optional<std::map<std::string, std::string>> parse_dict(std::string_view text) {
  std::map<std::string, std::string> dict;
  std::vector<std::string> parts;
  for (std::size_t i = 0; i < text.size();) {
    if (text[i] != '\'' && text[i] != '"') {
      ++i;
      continue;
    }
    const auto end = text.find(text[i], i + 1);
    if (end == std::string_view::npos) return std::nullopt;
    parts.emplace_back(text.substr(i + 1, end - i - 1));
    i = end + 1;
  }
  if (parts.empty() || parts.size() % 2 != 0) return std::nullopt;
  for (std::size_t i = 0; i < parts.size(); i += 2) dict[parts[i]] = parts[i + 1];
  return dict;
}

bool holds_metadata(const catalog::Volume& volume, std::string_view wanted) {
  const auto dict = parse_dict(wanted);
  if (!dict) return false;
  return std::ranges::all_of(*dict, [&](const auto& pair) {
    const auto found = volume.metadata.find(pair.first);
    return found != volume.metadata.end() && found->second == pair.second;
  });
}

/// "gt:2026-11-22T21:56:06,lt:…": ISO times compare as text once both have the same shape.
bool time_passes(base::WallTime time, std::string_view wanted) {
  const std::string shown = base::to_iso8601(time);
  for (const std::string& part : base::split(wanted, ',')) {
    const auto colon = part.find(':');
    std::string_view operation = std::string_view(part).substr(0, colon);
    std::string_view value = colon == std::string::npos ? "" : std::string_view(part).substr(colon + 1);
    if (operation.empty() || operation.front() < 'a') {  // no operator: a time by itself
      operation = "eq";
      value = part;
    }
    std::string moment(base::trim(value));
    std::ranges::replace(moment, ' ', 'T');
    if (moment.ends_with('Z')) moment.pop_back();
    const std::string row = shown.substr(0, std::min(shown.size(), std::max<std::size_t>(moment.size(), 19)));
    const int order = row.compare(moment);
    const bool passed = operation == "gt"    ? order > 0
                        : operation == "gte" ? order >= 0
                        : operation == "lt"  ? order < 0
                        : operation == "lte" ? order <= 0
                        : operation == "neq" ? order != 0
                        : operation == "eq"  ? order == 0
                                             : false;
    if (!passed) return false;
  }
  return true;
}

std::string text_of(const catalog::Volume& volume, std::string_view key) {
  if (key == "id") return volume.id;
  if (key == "name" || key == "display_name") return volume.display_name;
  if (key == "status") return volume.status;
  if (key == "availability_zone") return volume.availability_zone;
  if (key == "size") return std::to_string(volume.size_gb);
  if (key == "user_id") return volume.user_id;
  if (key == "project_id" || key == "tenant_id") return volume.project_id;
  if (key == "host") return volume.host;
  return {};
}

bool passes_one(const catalog::Volume& volume, const std::string& name, const std::string& wanted) {
  if (name == "metadata") return holds_metadata(volume, wanted);
  if (name == "created_at") return time_passes(volume.created_at, wanted);
  if (name == "updated_at") return time_passes(volume.updated_at, wanted);
  if (name == "bootable") return parse_bool(wanted) == std::optional<bool>(volume.bootable);
  if (name == "consumes_quota") return parse_bool(wanted) == std::optional<bool>(volume.counts_quota);
  if (name.ends_with('~')) {
    return text_of(volume, std::string_view(name).substr(0, name.size() - 1)).find(wanted) != std::string::npos;
  }
  return text_of(volume, name) == wanted;
}

int compare(const catalog::Volume& a, const catalog::Volume& b, std::string_view key) {
  const auto order = [](const auto& left, const auto& right) { return left < right ? -1 : right < left ? 1 : 0; };
  if (key == "size") return order(a.size_gb, b.size_gb);
  if (key == "created_at") return order(a.created_at, b.created_at);
  if (key == "updated_at") return order(a.updated_at, b.updated_at);
  if (key == "bootable") return order(a.bootable, b.bootable);
  return order(text_of(a, key), text_of(b, key));
}

}  // namespace

bool ListQuery::is_plain() const {
  return sort.empty() && offset == 0 && !with_count && !matches_nothing && limit > 0 &&
         std::ranges::all_of(filters, [](const auto& filter) {
           return filter.first == "status" || filter.first == "name" || filter.first == "display_name";
         });
}

Result<ListQuery> parse_list_query(const http::PathParameters& query, Microversion version, std::uint64_t max_limit,
                                   bool is_admin) {
  ListQuery list;
  IMAGECACHE_TRY(const std::uint64_t limit, number(query, "limit", max_limit));
  list.limit = std::min(limit, max_limit);
  IMAGECACHE_TRY(list.offset, number(query, "offset", 0));
  IMAGECACHE_TRY(list.sort, parse_sort(query));
  for (const auto& [name, value] : query) {
    if (name == "marker") {
      list.marker = value;
    } else if (name == "all_tenants") {
      const auto all = value.empty() ? std::optional<bool>(true) : parse_bool(value);
      if (!all) {
        return fail(Errc::invalid_argument,
                    fmt::format("Invalid input received: Invalid value '{}' for all_tenants", value));
      }
      list.all_projects = is_admin && *all;
    } else if (name == "with_count" && version >= Microversion{3, 45}) {
      const auto count = parse_bool(value);
      if (!count) {
        return fail(Errc::invalid_argument,
                    fmt::format("Invalid input received: Invalid value '{}' for with_count", value));
      }
      list.with_count = *count;
    } else if (is_one_of(paging_names, name)) {
      continue;
    } else {
      const std::string_view column =
          name.ends_with('~') ? std::string_view(name).substr(0, name.size() - 1) : std::string_view(name);
      if (is_one_of(filter_names, column)) {
        list.filters[name] = value;
      } else if (is_admin) {
        list.matches_nothing = true;
      }
    }
  }
  return list;
}

bool passes(const catalog::Volume& volume, const ListQuery& query) {
  return !query.matches_nothing && std::ranges::all_of(query.filters, [&](const auto& filter) {
    return passes_one(volume, filter.first, filter.second);
  });
}

Result<Page> make_page(std::vector<catalog::Volume> volumes, const ListQuery& query) {
  std::erase_if(volumes, [&](const catalog::Volume& volume) { return !passes(volume, query); });
  std::vector<SortKey> keys = query.sort;
  if (keys.empty()) keys.push_back({"created_at", true});
  keys.push_back({"id", keys.back().descending});
  std::ranges::sort(volumes, [&](const catalog::Volume& a, const catalog::Volume& b) {
    for (const SortKey& key : keys) {
      const int order = compare(a, b, key.key);
      if (order != 0) return key.descending ? order > 0 : order < 0;
    }
    return false;
  });
  Page page;
  page.total = volumes.size();
  auto first = volumes.begin();
  if (!query.marker.empty()) {
    first = std::ranges::find(volumes, query.marker, &catalog::Volume::id);
    if (first == volumes.end()) {
      return fail(Errc::not_found, fmt::format("Volume {} could not be found.", query.marker));
    }
    ++first;
  }
  const auto left = static_cast<std::uint64_t>(volumes.end() - first);
  first += static_cast<std::ptrdiff_t>(std::min(query.offset, left));
  const auto count = std::min<std::uint64_t>(query.limit, static_cast<std::uint64_t>(volumes.end() - first));
  page.volumes.assign(std::make_move_iterator(first),
                      std::make_move_iterator(first + static_cast<std::ptrdiff_t>(count)));
  return page;
}

Json next_link(const std::string& base_url, std::string_view path, std::string_view query, const std::string& last_id) {
  std::string href = base_url + std::string(path) + "?";
  for (const std::string& part : base::split(query, '&')) {
    if (part.empty() || part.starts_with("marker=") || part.starts_with("offset=")) continue;
    href += part + "&";
  }
  href += "marker=" + last_id;
  return Json::array({Json{{"rel", "next"}, {"href", std::move(href)}}});
}

}  // namespace imagecache::api
