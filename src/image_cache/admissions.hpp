// Who may have which image: the questions that are being asked at this moment, and, where that is wanted, a memory of
// the yes to those that were answered.
//
// A question belongs to nobody: whoever asked it first may leave, and all who joined get the answer. Callers share one
// only if they show the same token (its SHA-256, together with what else tells callers apart) and want the same image.
// A no is never remembered, and neither is a yes to a question that was asked before forget().
//
// Any thread. Cost O(log n); memory is the entries that were allowed for.
#pragma once

#include <chrono>
#include <cstddef>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "base/request_context.hpp"
#include "base/task.hpp"
#include "image_cache/image_cache.hpp"

namespace imagecache::image_cache {

class Admissions {
 public:
  using Time = std::chrono::steady_clock::time_point;

  struct Key {
    std::string image_id;
    std::string caller;  ///< from caller_of()
    auto operator<=>(const Key&) const = default;
  };
  /// Names a caller without keeping the token.
  static Result<std::string> caller_of(const base::RequestContext& context);

  class Question {
   public:
    Question(Key key, Time asked_at) : key_(std::move(key)), asked_at_(asked_at) {}
    const Key& key() const { return key_; }
    /// Grows when the answer is there.
    base::Signal& answered() { return answered_; }

   private:
    friend class Admissions;
    const Key key_;
    const Time asked_at_;
    base::Signal answered_;
    // Protected by the mutex of Admissions.
    std::optional<Result<origin::ImageInfo>> described_;
    std::optional<Result<void>> authorized_;
    bool outdated_ = false;  // forget() came after it
  };

  /// `memory` of zero: nothing is remembered.
  Admissions(std::chrono::milliseconds memory, std::size_t max_entries) : memory_(memory), max_entries_(max_entries) {}

  struct Begun {
    std::optional<Admission> remembered;
    std::shared_ptr<Question> question;  // shared by all who wait for it and the two jobs that answer it
    bool is_first = false;               // the caller has to see to both answers
  };
  Begun begin(Key key, Time now);
  void described(const std::shared_ptr<Question>& question, Result<origin::ImageInfo> answer);
  void authorized(const std::shared_ptr<Question>& question, Result<void> answer);
  /// Absent until both have been answered; both must have said yes.
  std::optional<Result<origin::ImageInfo>> answer(const Question& question) const;

  /// Everybody who waits, and who comes to wait for what is being asked, gets this error. At a stop.
  void give_up(const Error& error);
  void forget(const std::string& image_id);
  void forget_all();
  std::size_t remembered() const;

 private:
  struct Yes {
    Key key;
    origin::ImageInfo info;
    Time asked_at;
  };
  void settle(const std::shared_ptr<Question>& question);
  std::optional<Result<origin::ImageInfo>> answer_now(const Question& question) const;
  void forget_from(std::map<Key, std::list<Yes>::iterator>::iterator entry);

  const std::chrono::milliseconds memory_;
  const std::size_t max_entries_;
  mutable std::mutex mutex_;
  // Protected by mutex_.
  std::map<Key, std::shared_ptr<Question>> asking_;
  std::list<Yes> by_use_;  // the one used last stands in front
  std::map<Key, std::list<Yes>::iterator> yes_;
};

}  // namespace imagecache::image_cache
