// os-services and os-hosts: this process as Cinder shows its parts, a cinder-scheduler (it chooses backends) and a
// cinder-volume for each backend; and what an administrator tells them.
#include <algorithm>
#include <utility>

#include "api/api.hpp"
#include "api/call.hpp"
#include "api/volume_request.hpp"
#include "base/text.hpp"
#include "base/try.hpp"

namespace imagecache::api {
namespace {

using catalog::ServiceState;

constexpr std::string_view scheduler = "cinder-scheduler";
constexpr std::string_view volume_service = "cinder-volume";

struct Service {
  std::string_view binary;
  std::string host;            ///< "host" of the scheduler, "host@section" of a backend
  std::string_view backend{};  ///< section
};

std::vector<Service> all_services(const Call& call) {
  std::vector<Service> services{{.binary = scheduler, .host = call.api.options.host}};
  for (const auto& backend : call.api.volumes.backends()) {
    const auto& options = backend->options();
    services.push_back({.binary = volume_service, .host = options.host, .backend = options.name});
  }
  return services;
}

/// "host" is all backends of a host, "host@section" one, and so is "host@section#pool".
bool is_of_host(const Service& service, std::string_view host) {
  host = host.substr(0, host.find('#'));
  return host == service.host || service.host.starts_with(std::string(host) + "@");
}

base::Task<Result<std::map<std::string, ServiceState>>> read_states(Call& call) {
  co_return co_await base::offload(call.api.pool,
                                   [&catalog = call.api.volumes.catalog()] { return catalog.service_states(); });
}

/// This process is up if it answers at all.
Json service_view(const Call& call, const Service& service, const ServiceState& state) {
  Json view{{"binary", service.binary},
            {"host", service.host},
            {"zone", call.api.options.availability_zone},
            {"status", state.disabled ? "disabled" : "enabled"},
            {"state", "up"},
            {"updated_at", base::to_iso8601(call.api.clock.now())},
            {"disabled_reason", or_null(state.disabled_reason)}};
  const bool has_storage = service.binary == volume_service;
  if (has_storage) {
    view["replication_status"] = "disabled";
    view["active_backend_id"] = nullptr;
    view["frozen"] = state.frozen;
  }
  if (call.version >= Microversion{3, 7}) view["cluster"] = nullptr;
  if (call.version >= Microversion{3, 49} && has_storage) view["backend_state"] = "up";
  return view;
}

base::Task<Reply> list(Call& call) {
  const auto host = call.query.find("host");
  const auto binary = call.query.find("binary");
  auto states = co_await read_states(call);
  if (!states) co_return fault(states.error());
  Json array = Json::array();
  for (const Service& service : all_services(call)) {
    if (binary != call.query.end() && binary->second != service.binary) continue;
    if (host != call.query.end() && !is_of_host(service, host->second)) continue;
    array.push_back(service_view(call, service, (*states)[service.host]));
  }
  co_return json_reply(200, Json{{"services", std::move(array)}});
}

/// Reads what the service was told, lets `change` change it, writes it back, with nobody between.
template <class Change>
base::Task<Result<void>> change_state(Call& call, std::string host, Change change) {
  co_return co_await base::offload(
      call.api.pool, [&api = call.api, host = std::move(host), change = std::move(change)]() -> Result<void> {
        const std::lock_guard lock(api.row_maps);
        IMAGECACHE_TRY(auto states, api.volumes.catalog().service_states());
        ServiceState state = states[host];
        change(state);
        return api.volumes.catalog().set_service_state(host, state);
      });
}

std::optional<Service> find_service(const Call& call, std::string_view binary, std::string_view host) {
  for (Service& service : all_services(call)) {
    if (service.binary == binary && service.host == host) return std::move(service);
  }
  return std::nullopt;
}

/// enable, disable, disable-log-reason: nothing new is made by a disabled service; what there is goes on.
base::Task<Reply> enable(Call& call, const JsonIn& body, bool disabled, bool with_reason) {
  auto host = string_member(body, "host", 255);
  auto service = string_member(body, "service", 255);
  auto binary = string_member(body, "binary", 255);
  for (const auto* given : {&host, &service, &binary}) {
    if (!*given) co_return fault(given->error());
  }
  if (!*service && !*binary) co_return fault(400, "'binary' is a required property");
  if (!*host || (*host)->empty()) co_return fault(400, "Invalid input received: Host name is missing.");
  std::string reason;
  if (with_reason) {
    auto given = string_member(body, "disabled_reason", 255);
    if (!given) co_return fault(given.error());
    if (!*given || (*given)->empty()) co_return fault(400, "'disabled_reason' is a required property");
    reason = **given;
  }
  const std::string name = binary->value_or(service->value_or(""));
  if (!find_service(call, name, **host))
    co_return fault(404, "Service " + name + " could not be found on host " + **host + ".");
  auto done = co_await change_state(call, **host, [disabled, reason](ServiceState& state) {
    state.disabled = disabled;
    state.disabled_reason = reason;
  });
  if (!done) co_return fault(done.error());
  Json view{{"host", **host},
            {"service", service->value_or("")},
            {"disabled", disabled},
            {"binary", binary->value_or("")},
            {"status", disabled ? "disabled" : "enabled"}};
  if (with_reason) view["disabled_reason"] = reason;
  co_return json_reply(200, view);
}

/// freeze, thaw: what is there stays, nothing new is made.
base::Task<Reply> freeze(Call& call, const JsonIn& body, bool frozen) {
  if (auto refused = refused_by_policy(call, frozen ? "volume:freeze_host" : "volume:thaw_host"))
    co_return std::move(*refused);
  auto host = string_member(body, "host", 255);
  if (!host) co_return fault(host.error());
  if (!*host || (*host)->empty()) co_return fault(400, "Invalid input received: Host name is missing.");
  if (!find_service(call, volume_service, **host))
    co_return fault(400, "Invalid input received: Service cinder-volume could not be found on host " + **host + ".");
  auto done = co_await change_state(call, **host, [frozen](ServiceState& state) { state.frozen = frozen; });
  co_return done ? empty_reply(200) : fault(done.error());
}

base::Task<Reply> update(Call& call) {
  const auto body = parse_object(call.body);
  if (!body) co_return fault(body.error());
  const std::string& action = call.parameter("action");
  if (action == "enable") co_return co_await enable(call, *body, false, false);
  if (action == "disable") co_return co_await enable(call, *body, true, false);
  if (action == "disable-log-reason") co_return co_await enable(call, *body, true, true);
  if (action == "freeze") co_return co_await freeze(call, *body, true);
  if (action == "thaw") co_return co_await freeze(call, *body, false);
  co_return fault(400, "Invalid input received: Unknown action");
}

base::Task<Reply> list_hosts(Call& call) {
  const auto zone = call.query.find("zone");
  auto states = co_await read_states(call);
  if (!states) co_return fault(states.error());
  Json array = Json::array();
  for (const Service& service : all_services(call)) {
    if ((*states)[service.host].disabled) continue;  // as Cinder lists them
    if (zone != call.query.end() && !zone->second.empty() && zone->second != call.api.options.availability_zone)
      continue;
    array.push_back(Json{{"host_name", service.host},
                         {"service", service.binary},
                         {"zone", call.api.options.availability_zone},
                         {"service-status", "available"},
                         {"service-state", "enabled"},
                         {"last-update", base::to_iso8601(call.api.clock.now())}});
  }
  co_return json_reply(200, Json{{"hosts", std::move(array)}});
}

struct Totals {
  std::uint64_t volumes = 0;
  std::uint64_t size_gb = 0;
};

Json resource_view(const std::string& host, const std::string& project, const Totals& totals) {
  return Json{{"resource", Json{{"host", host},
                                {"project", project},
                                {"volume_count", std::to_string(totals.volumes)},
                                {"total_volume_gb", std::to_string(totals.size_gb)},
                                {"snapshot_count", "0"},
                                {"total_snapshot_gb", "0"}}}};
}

/// A backend's volumes, page by page. One that goes while we read takes its page's marker along: begin again.
Result<std::map<std::string, Totals>> totals_by_project(catalog::Catalog& catalog, const std::string& backend) {
  constexpr std::uint64_t page_size = 1000;
  constexpr int attempts = 5;
  for (int attempt = 1;; ++attempt) {
    std::map<std::string, Totals> totals;
    catalog::VolumeFilter filter{.backend = backend, .limit = page_size};
    while (true) {
      auto page = catalog.list_volumes(filter);
      if (!page && page.error().code == Errc::not_found && attempt < attempts) break;
      if (!page) return std::unexpected(std::move(page).error());
      for (const catalog::Volume& volume : *page) {
        Totals& of = totals[volume.project_id];
        ++of.volumes;
        of.size_gb += volume.size_gb;
      }
      if (page->size() < page_size) return totals;
      filter.marker = page->back().id;
    }
  }
}

base::Task<Reply> show_host(Call& call) {
  const std::string& host = call.parameter("host");
  const auto service = find_service(call, volume_service, host);
  if (!service) co_return fault(404, "Host " + host + " could not be found.");
  auto by_project = co_await base::offload(
      call.api.pool, [&catalog = call.api.volumes.catalog(), backend = std::string(service->backend)] {
        return totals_by_project(catalog, backend);
      });
  if (!by_project) co_return fault(by_project.error());
  Totals total;
  for (const auto& [project, totals] : *by_project) {
    total.volumes += totals.volumes;
    total.size_gb += totals.size_gb;
  }
  Json array = Json::array({resource_view(host, "(total)", total)});
  for (const auto& [project, totals] : *by_project) array.push_back(resource_view(host, project, totals));
  co_return json_reply(200, Json{{"host", std::move(array)}});
}

}  // namespace

void add_service_routes(http::Router& router, ApiContext& api) {
  add_v3_route(router, api, "GET", "/os-services", list, "volume_extension:services:index");
  add_v3_route(router, api, "PUT", "/os-services/{action}", update, "volume_extension:services:update");
  add_v3_route(router, api, "GET", "/os-hosts", list_hosts, "volume_extension:hosts");
  add_v3_route(router, api, "GET", "/os-hosts/{host}", show_host, "volume_extension:hosts");
}

}  // namespace imagecache::api
