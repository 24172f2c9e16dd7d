// What an administrator has told the services.
#include "base/try.hpp"
#include "catalog/sqlite_catalog.hpp"

namespace imagecache::catalog {

Result<std::map<std::string, ServiceState>> SqliteCatalog::service_states() {
  return readers_.run([&](Connection& connection) -> Result<std::map<std::string, ServiceState>> {
    auto rows = connection.query("SELECT host, disabled, disabled_reason, frozen, updated_at FROM service_states");
    std::map<std::string, ServiceState> states;
    while (rows.step()) {
      states[rows.text(0)] = {.disabled = rows.boolean(1),
                              .disabled_reason = rows.text(2),
                              .frozen = rows.boolean(3),
                              .updated_at = rows.time(4)};
    }
    return states;
  });
}

Result<void> SqliteCatalog::set_service_state(const std::string& host, const ServiceState& state) {
  return writer_.run([&](Connection& connection) -> Result<void> {
    connection
        .query(
            "INSERT INTO service_states (host, disabled, disabled_reason, frozen, updated_at) "
            "VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (host) DO UPDATE SET disabled = excluded.disabled, "
            "disabled_reason = excluded.disabled_reason, frozen = excluded.frozen, updated_at = excluded.updated_at")
        .with(host, state.disabled, state.disabled_reason, state.frozen, clock_.now())
        .run();
    return {};
  });
}

}  // namespace imagecache::catalog
