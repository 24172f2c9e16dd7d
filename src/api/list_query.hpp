// The query of a volume list: paging, sorting, filters; and what it means for rows of the catalog.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/json.hpp"
#include "api/microversion.hpp"
#include "catalog/catalog.hpp"
#include "http/router.hpp"

namespace imagecache::api {

struct SortKey {
  std::string key;
  bool descending = true;
};

struct ListQuery {
  std::uint64_t limit = 1000;
  std::uint64_t offset = 0;
  std::string marker;
  std::vector<SortKey> sort;  ///< empty: created_at:desc
  bool all_projects = false;
  bool with_count = false;
  std::map<std::string, std::string> filters;  ///< only such as exist; values not yet looked at
  bool matches_nothing = false;                ///< an admin asked for a column that is not there

  /// True where the catalog's own filter, order and page give the answer; else rows are read through and sifted.
  bool is_plain() const;
};

/// Errc::invalid_argument in Cinder's words.
Result<ListQuery> parse_list_query(const http::PathParameters& query, Microversion version, std::uint64_t max_limit,
                                   bool is_admin);

/// Does the row pass all filters?
bool passes(const catalog::Volume& volume, const ListQuery& query);

struct Page {
  std::vector<catalog::Volume> volumes;
  std::uint64_t total = 0;  ///< before limit and marker
};
/// Filters, sorts and cuts. Errc::not_found for a marker that is not among them.
Result<Page> make_page(std::vector<catalog::Volume> volumes, const ListQuery& query);

/// [{"rel": "next", "href": …}] where a full page was given, else null. `path` as the client sent it, `query` likewise.
Json next_link(const std::string& base_url, std::string_view path, std::string_view query, const std::string& last_id);

}  // namespace imagecache::api
