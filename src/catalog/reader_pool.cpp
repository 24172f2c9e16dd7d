#include "catalog/reader_pool.hpp"

#include <algorithm>

namespace imagecache::catalog {

std::unique_ptr<Connection> ReaderPool::take() {
  {
    std::unique_lock lock(mutex_);
    returned_.wait(lock, [&] { return lent_ < std::max(options_.readers, 1U); });
    ++lent_;
    if (!idle_.empty()) {
      auto connection = std::move(idle_.back());
      idle_.pop_back();
      return connection;
    }
  }
  return std::make_unique<Connection>(path_, Connection::Role::reader, options_);
}

void ReaderPool::give_back(std::unique_ptr<Connection> connection) {
  const std::lock_guard lock(mutex_);
  --lent_;
  if (connection) idle_.push_back(std::move(connection));
  returned_.notify_one();
}

std::vector<std::string> ReaderPool::statements() const {
  const std::lock_guard lock(mutex_);
  std::vector<std::string> all;
  for (const auto& connection : idle_) std::ranges::copy(connection->statements(), std::back_inserter(all));
  return all;
}

}  // namespace imagecache::catalog
