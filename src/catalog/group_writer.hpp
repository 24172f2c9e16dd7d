// Group commit: changes that come at the same time share one transaction, and so one sync of the disk, which is what
// they cost. Private to the room.
//
// The first caller who finds nobody writing becomes the leader: it takes all that waits, runs each change in a
// savepoint of its own (so that one that is refused takes nothing of the others along), commits, and wakes them. A
// group of which nobody asks to be durable now is not synced: the next one's sync carries it, as the log is one file.
// Whoever came meanwhile is the next group. No thread of its own lies between a caller and the disk; one is there to
// carry the log into the database file, which no caller shall wait for.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "catalog/connection.hpp"

namespace imagecache::catalog {

class GroupWriter {
 public:
  /// A change. It may be run more than once, each time on what was there before it, and then only the last run counts.
  using Change = std::function<Result<void>(Connection&)>;

  /// `log_keeper` is a second writing connection to the same file.
  GroupWriter(std::unique_ptr<Connection> writer, std::unique_ptr<Connection> log_keeper);
  /// No caller may be inside.
  ~GroupWriter();
  GroupWriter(const GroupWriter&) = delete;
  GroupWriter& operator=(const GroupWriter&) = delete;

  /// Blocks until the change is as durable as asked, or has failed and left nothing. Any thread.
  Result<void> run(const Change& change, Durable durable = Durable::now);

  struct Counts {
    std::uint64_t transactions = 0;  ///< that changed something
    std::uint64_t unsynced = 0;      ///< of them: those that a power failure may take
    std::uint64_t changes = 0;       ///< asked for
  };
  Counts counts() const;
  /// Callers that wait for a leader now.
  std::size_t waiting() const;
  std::vector<std::string> statements() const;

 private:
  struct Job {
    const Change* change;
    Durable durable;
    Result<void> result;
    bool done = false;
  };
  void lead(const std::vector<Job*>& group);
  void set_durable(Durable durable);
  bool run_together(const std::vector<Job*>& group);
  void run_alone(Job& job);
  void commit();
  void roll_back();
  void keep_log(std::stop_token stop);
  static int note_log_size(void* self, sqlite3*, const char*, int pages);

  mutable std::mutex mutex_;
  std::condition_variable turn_;
  // Protected by mutex_.
  std::vector<Job*> queue_;
  bool led_ = false;
  Counts counts_;

  // The leader's, one at a time.
  std::unique_ptr<Connection> connection_;
  Durable durable_ = Durable::now;  // of the group that is written, and so of connection_
  int log_pages_ = 0;

  // The log keeper's.
  std::unique_ptr<Connection> log_keeper_;
  std::mutex log_mutex_;
  std::condition_variable_any log_grown_;
  bool log_is_long_ = false;  // protected by log_mutex_
  std::jthread log_thread_;   // last, so that it ends first
};

}  // namespace imagecache::catalog
