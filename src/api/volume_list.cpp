// GET /volumes, /volumes/detail, /volumes/summary.
#include <map>
#include <set>
#include <utility>

#include "api/api.hpp"
#include "api/call.hpp"
#include "api/list_query.hpp"
#include "api/volume_lookup.hpp"
#include "api/volume_types.hpp"
#include "base/try.hpp"

namespace imagecache::api {
namespace {

constexpr std::uint64_t rows_per_read = 1000;

struct ListAnswer {
  Page page;
  std::map<std::string, std::string> type_ids;  ///< by name
};

/// Every row of the project, or of all. A row that goes while we read takes its page's marker along: begin again.
Result<std::vector<catalog::Volume>> read_all(catalog::Catalog& catalog, const catalog::VolumeFilter& filter) {
  constexpr int attempts = 5;
  for (int attempt = 1;; ++attempt) {
    std::vector<catalog::Volume> all;
    catalog::VolumeFilter next = filter;
    next.limit = rows_per_read;
    while (true) {
      auto rows = catalog.list_volumes(next);
      if (!rows && rows.error().code == Errc::not_found && attempt < attempts) break;
      if (!rows) return std::unexpected(std::move(rows).error());
      const bool last = rows->size() < rows_per_read;
      all.insert(all.end(), std::make_move_iterator(rows->begin()), std::make_move_iterator(rows->end()));
      if (last) return all;
      next.marker = all.back().id;
    }
  }
}

Result<ListAnswer> list_blocking(ApiContext& api, const ListQuery& query, const catalog::VolumeFilter& project) {
  ListAnswer answer;
  if (!query.matches_nothing && query.limit > 0) {
    catalog::VolumeFilter filter = project;
    if (const auto status = query.filters.find("status"); status != query.filters.end()) filter.status = status->second;
    for (const char* name : {"name", "display_name"}) {
      if (const auto found = query.filters.find(name); found != query.filters.end())
        filter.display_name = found->second;
    }
    if (query.is_plain()) {
      filter.marker = query.marker;
      filter.limit = query.limit;
      auto rows = api.volumes.catalog().list_volumes(filter);
      if (!rows && rows.error().code == Errc::not_found) {
        return fail(Errc::not_found, "Volume " + query.marker + " could not be found.");
      }
      if (!rows) return std::unexpected(std::move(rows).error());
      answer.page.volumes = std::move(*rows);
    } else {
      IMAGECACHE_TRY(auto rows, read_all(api.volumes.catalog(), filter));
      IMAGECACHE_TRY(answer.page, make_page(std::move(rows), query));
    }
  }
  for (const catalog::Volume& volume : answer.page.volumes) {
    if (volume.volume_type.empty() || answer.type_ids.contains(volume.volume_type)) continue;
    IMAGECACHE_TRY(const auto type, find_type(api.volumes, volume.volume_type));
    answer.type_ids[volume.volume_type] = type ? type->id : "";
  }
  return answer;
}

base::Task<Reply> list(Call& call, bool detailed) {
  auto query = parse_list_query(call.query, call.version, call.api.options.osapi_max_limit, call.who.is_admin);
  if (!query) co_return fault(query.error());
  catalog::VolumeFilter project;
  if (!query->all_projects) project.project_id = call.who.project_id;
  auto answer = co_await base::offload(
      call.api.pool, [&api = call.api, wanted = *query, project] { return list_blocking(api, wanted, project); });
  if (!answer) co_return fault(answer.error());

  Json volumes = Json::array();
  for (const catalog::Volume& volume : answer->page.volumes) {
    const auto type = answer->type_ids.find(volume.volume_type);
    const auto options =
        view_options(call, VolumeDetail::full, type == answer->type_ids.end() ? std::string() : type->second);
    volumes.push_back(detailed ? volume_view(volume, options) : volume_summary_view(volume, options));
  }
  const bool full_page = query->limit > 0 && answer->page.volumes.size() == query->limit;
  Json body{{"volumes", std::move(volumes)}};
  if (full_page) {
    body["volumes_links"] =
        next_link(call.base_url(), call.exchange.path(), call.exchange.query(), answer->page.volumes.back().id);
  }
  if (query->with_count) body["count"] = answer->page.total;
  co_return json_reply(200, body);
}

base::Task<Reply> list_brief(Call& call) {
  return list(call, false);
}

base::Task<Reply> list_detail(Call& call) {
  return list(call, true);
}

base::Task<Reply> summary(Call& call) {
  auto query = parse_list_query(call.query, call.version, call.api.options.osapi_max_limit, call.who.is_admin);
  if (!query) co_return fault(query.error());
  catalog::VolumeFilter project;
  if (!query->all_projects) project.project_id = call.who.project_id;
  auto rows = co_await base::offload(
      call.api.pool, [&catalog = call.api.volumes.catalog(), project] { return read_all(catalog, project); });
  if (!rows) co_return fault(rows.error());
  std::uint64_t size = 0;
  std::uint64_t count = 0;
  std::map<std::string, std::set<std::string>> metadata;
  for (const catalog::Volume& volume : *rows) {
    if (!passes(volume, *query)) continue;
    size += volume.size_gb;
    ++count;
    for (const auto& [key, value] : volume.metadata) metadata[key].insert(value);
  }
  Json body{{"total_size", size}, {"total_count", count}};
  if (call.version >= Microversion{3, 36}) {
    body["metadata"] = Json::object();
    for (const auto& [key, values] : metadata) body["metadata"][key] = values;
  }
  co_return json_reply(200, Json{{"volume-summary", std::move(body)}});
}

}  // namespace

void add_volume_list_routes(http::Router& router, ApiContext& api) {
  add_v3_route(router, api, "GET", "/volumes", list_brief, "volume:get_all");
  add_v3_route(router, api, "GET", "/volumes/detail", list_detail, "volume:get_all");
  add_v3_route(router, api, "GET", "/volumes/summary", summary, "volume:get_all", Microversion{3, 12});
}

}  // namespace imagecache::api
