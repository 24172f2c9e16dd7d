// Messages: what went wrong, for a project to read, until it expires.
#include <fmt/format.h>

#include <limits>

#include "base/try.hpp"
#include "catalog/rows.hpp"
#include "catalog/sqlite_catalog.hpp"

namespace imagecache::catalog {

Result<void> SqliteCatalog::add_message(const Message& message) {
  static const std::string insert = fmt::format("INSERT INTO messages ({}) VALUES ({})", message_columns, places(10));
  return writer_.run([&](Connection& connection) -> Result<void> {
    connection.query("DELETE FROM messages WHERE expires_at < ?1").with(clock_.now()).run();
    auto query = connection.query(insert);
    bind_message(query, message);
    query.run();
    connection
        .query(
            "DELETE FROM messages WHERE project_id = ?1 AND (created_at, id) <= (SELECT created_at, id FROM messages "
            "WHERE project_id = ?1 ORDER BY created_at DESC, id DESC LIMIT 1 OFFSET ?2)")
        .with(message.project_id, max_messages_per_project)
        .run();
    return {};
  });
}

Result<std::optional<Message>> SqliteCatalog::find_message(const std::string& id) {
  static const std::string select = fmt::format("SELECT {} FROM messages WHERE id = ?1", message_columns);
  return readers_.run([&](Connection& connection) -> Result<std::optional<Message>> {
    auto row = connection.query(select);
    if (!row.with(id).step()) return std::nullopt;
    return read_message(row);
  });
}

Result<std::vector<Message>> SqliteCatalog::list_messages(const std::optional<std::string>& project_id) {
  static const std::string of_all = fmt::format(
      "SELECT {} FROM messages INDEXED BY messages_by_time WHERE created_at < ?1 ORDER BY created_at DESC, id DESC",
      message_columns);
  static const std::string of_project =
      fmt::format("SELECT {} FROM messages WHERE project_id = ?1 ORDER BY created_at DESC, id DESC", message_columns);
  return readers_.run([&](Connection& connection) -> Result<std::vector<Message>> {
    auto rows = connection.query(project_id ? of_project : of_all);
    if (project_id) {
      rows.with(*project_id);
    } else {
      rows.with(std::numeric_limits<std::int64_t>::max());
    }
    std::vector<Message> messages;
    while (rows.step()) messages.push_back(read_message(rows));
    return messages;
  });
}

Result<void> SqliteCatalog::remove_message(const std::string& id) {
  return writer_.run([&](Connection& connection) -> Result<void> {
    connection.query("DELETE FROM messages WHERE id = ?1").with(id).run();
    return {};
  });
}

}  // namespace imagecache::catalog
