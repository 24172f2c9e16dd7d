#include "catalog/group_writer.hpp"

#include <pthread.h>
#include <sqlite3.h>

#include <algorithm>

#include "base/crash_point.hpp"
#include "base/log.hpp"

namespace imagecache::catalog {
namespace {

constexpr std::size_t largest_group = 256;  // bounds how much one failing commit makes run again
constexpr int long_log_pages = 1000;        // 4 MiB: time to carry it over, beside the writers
constexpr int too_long_log_pages = 16'000;  // 64 MiB: the writers are faster than that, so they wait for it

}  // namespace

GroupWriter::GroupWriter(std::unique_ptr<Connection> writer, std::unique_ptr<Connection> log_keeper)
    : connection_(std::move(writer)), log_keeper_(std::move(log_keeper)) {
  sqlite3_wal_hook(connection_->handle(), &GroupWriter::note_log_size, this);
  log_thread_ = std::jthread([this](std::stop_token stop) { keep_log(std::move(stop)); });
}

GroupWriter::~GroupWriter() {
  log_thread_.request_stop();
  log_thread_.join();
}

Result<void> GroupWriter::run(const Change& change, Durable durable) {
  Job job{.change = &change, .durable = durable, .result = {}};
  std::unique_lock lock(mutex_);
  queue_.push_back(&job);
  ++counts_.changes;
  while (true) {
    turn_.wait(lock, [&] { return job.done || !led_; });
    if (job.done) return std::move(job.result);
    led_ = true;
    const auto end = queue_.begin() + static_cast<std::ptrdiff_t>(std::min(queue_.size(), largest_group));
    const std::vector<Job*> group(queue_.begin(), end);
    queue_.erase(queue_.begin(), end);
    lock.unlock();
    lead(group);
    lock.lock();
    for (Job* answered : group) answered->done = true;
    led_ = false;
    turn_.notify_all();
  }
}

void GroupWriter::lead(const std::vector<Job*>& group) {
  const bool waits = std::ranges::any_of(group, [](const Job* job) { return job->durable == Durable::now; });
  try {
    set_durable(waits ? Durable::now : Durable::soon);
  } catch (const SQLite::Exception& error) {
    for (Job* job : group) job->result = std::unexpected(connection_->explain(error));
    return;
  }
  if (group.size() == 1 || !run_together(group)) {
    for (Job* job : group) run_alone(*job);
  }
  if (log_pages_ < long_log_pages) return;
  if (log_pages_ >= too_long_log_pages) {
    static_cast<void>(
        sqlite3_wal_checkpoint_v2(connection_->handle(), nullptr, SQLITE_CHECKPOINT_PASSIVE, nullptr, nullptr));
  }
  const std::lock_guard lock(log_mutex_);
  log_is_long_ = true;
  log_grown_.notify_one();
}

void GroupWriter::set_durable(Durable durable) {
  if (durable == durable_) return;
  durable_ = Durable::soon;  // if that fails in the middle, the next group sets it again
  // Of NORMAL, SQLite says: a commit may be lost in a power failure; the file is whole all the same.
  connection_->execute(durable == Durable::soon ? "PRAGMA synchronous=NORMAL" : "PRAGMA synchronous=FULL");
  durable_ = durable;
}

bool GroupWriter::run_together(const std::vector<Job*>& group) {
  // False: nothing has changed and everyone is to be run alone, so that what breaks one does not break all.
  try {
    connection_->execute("BEGIN IMMEDIATE");
    for (Job* job : group) {
      connection_->query("SAVEPOINT one").run();
      job->result = (*job->change)(*connection_);
      if (!job->result) connection_->query("ROLLBACK TO one").run();
      connection_->query("RELEASE one").run();
    }
    commit();
    return true;
  } catch (const SQLite::Exception& error) {
    roll_back();
    if (error.getErrorCode() != SQLITE_BUSY) return false;
    // Alone each would wait for the other process as long again.
    for (Job* job : group) job->result = std::unexpected(connection_->explain(error));
    return true;
  } catch (const std::exception&) {
    roll_back();
    return false;
  }
}

void GroupWriter::run_alone(Job& job) {
  try {
    connection_->execute("BEGIN IMMEDIATE");
    job.result = (*job.change)(*connection_);
    if (job.result) {
      commit();
    } else {
      roll_back();
    }
  } catch (const SQLite::Exception& error) {
    job.result = std::unexpected(connection_->explain(error));
    roll_back();
  } catch (const std::exception& error) {
    job.result = fail(Errc::internal, connection_->path() + ": the catalog failed (" + error.what() + ")");
    roll_back();
  }
}

void GroupWriter::commit() {
  base::crash_point("catalog.before_commit");
  connection_->query("COMMIT").run();
  base::crash_point("catalog.after_commit");
}

void GroupWriter::roll_back() {
  // SQLite has rolled back by itself after some errors; a roll-back in memory cannot fail otherwise.
  if (!connection_->in_transaction()) return;
  try {
    connection_->execute("ROLLBACK");
  } catch (const SQLite::Exception& error) {
    base::log::error("catalog", nullptr, "{}: cannot roll back: {}", connection_->path(), error.what());
  }
}

int GroupWriter::note_log_size(void* self, sqlite3*, const char*, int pages) {
  auto* writer = static_cast<GroupWriter*>(self);
  writer->log_pages_ = pages;
  const std::lock_guard lock(writer->mutex_);
  ++writer->counts_.transactions;
  if (writer->durable_ == Durable::soon) ++writer->counts_.unsynced;
  return SQLITE_OK;
}

void GroupWriter::keep_log(std::stop_token stop) {
  static_cast<void>(pthread_setname_np(pthread_self(), "catalog-log"));
  int last_code = SQLITE_OK;
  while (true) {
    {
      std::unique_lock lock(log_mutex_);
      if (!log_grown_.wait(lock, stop, [&] { return log_is_long_; })) return;
      log_is_long_ = false;
    }
    // Passive: waits for nobody. What a reader still needs is left for the next time. A failure (the disk is full)
    // loses nothing: the log stays, and grows until it works again.
    const int code =
        sqlite3_wal_checkpoint_v2(log_keeper_->handle(), nullptr, SQLITE_CHECKPOINT_PASSIVE, nullptr, nullptr);
    if (code != SQLITE_OK && code != SQLITE_BUSY && code != last_code)
      base::log::warning("catalog", nullptr, "{}: cannot carry the log over into the file: {}", log_keeper_->path(),
                         sqlite3_errmsg(log_keeper_->handle()));
    last_code = code;
  }
}

GroupWriter::Counts GroupWriter::counts() const {
  const std::lock_guard lock(mutex_);
  return counts_;
}

std::size_t GroupWriter::waiting() const {
  const std::lock_guard lock(mutex_);
  return queue_.size();
}

std::vector<std::string> GroupWriter::statements() const {
  return connection_->statements();
}

}  // namespace imagecache::catalog
