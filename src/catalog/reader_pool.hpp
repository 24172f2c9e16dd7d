// A few connections for reading, lent to one caller at a time. Reads see everything committed before they began and
// wait for no writer. Private to the room.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "catalog/connection.hpp"

namespace imagecache::catalog {

class ReaderPool {
 public:
  /// Opens connections as they are needed, at most options.readers.
  ReaderPool(std::string path, SqliteOptions options) : path_(std::move(path)), options_(options) {}

  /// Runs `read` (Connection& → Result<T>) inside one read transaction, so that all it sees is of one instant.
  template <class Read>
  auto run(const Read& read) -> decltype(read(std::declval<Connection&>())) {
    std::unique_ptr<Connection> connection;
    try {
      connection = take();
      connection->query("BEGIN").run();
      auto result = read(*connection);
      connection->query("COMMIT").run();
      give_back(std::move(connection));
      return result;
    } catch (const SQLite::Exception& error) {
      auto explained = connection ? connection->explain(error) : explain(path_, error, 0);
      // It may be in any state: the next caller gets a fresh one.
      connection.reset();
      give_back(nullptr);
      return std::unexpected(std::move(explained));
    }
  }

  std::vector<std::string> statements() const;

 private:
  std::unique_ptr<Connection> take();
  void give_back(std::unique_ptr<Connection> connection);

  const std::string path_;
  const SqliteOptions options_;
  mutable std::mutex mutex_;
  std::condition_variable returned_;
  // Protected by mutex_.
  std::vector<std::unique_ptr<Connection>> idle_;
  unsigned lent_ = 0;
};

}  // namespace imagecache::catalog
