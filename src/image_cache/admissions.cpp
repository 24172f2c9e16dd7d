#include "image_cache/admissions.hpp"

#include "base/digest.hpp"

namespace imagecache::image_cache {
namespace {

/// A question that hangs for longer is joined by nobody.
constexpr std::chrono::seconds longest_join{5};

/// The other question's answer cannot change such a no.
bool is_a_no(const Error& error) {
  return error.code == Errc::not_found || error.code == Errc::forbidden || error.code == Errc::unauthenticated;
}

}  // namespace

Result<std::string> Admissions::caller_of(const base::RequestContext& context) {
  std::string parts;
  const auto add = [&](std::string_view part) {
    parts += part;
    parts += '\0';
  };
  add(context.auth_token);
  add(context.service_token);
  // Without tokens (noauth) callers differ by these alone.
  add(context.user_id);
  add(context.project_id);
  add(context.system_scope);
  add(context.is_admin ? "admin" : "");
  for (const auto& role : context.roles) add(role);
  return base::sha256_hex(parts);
}

Admissions::Begun Admissions::begin(Key key, Time now) {
  const std::lock_guard lock(mutex_);
  if (const auto known = yes_.find(key); known != yes_.end()) {
    const Yes& yes = *known->second;
    if (now - yes.asked_at < memory_) {
      by_use_.splice(by_use_.begin(), by_use_, known->second);
      return {.remembered = Admission{.info = yes.info,
                                      .age = std::chrono::duration_cast<std::chrono::seconds>(now - yes.asked_at)},
              .question = nullptr};
    }
    forget_from(known);
  }
  auto& question = asking_[key];
  // Half of the answer may be there already; one that is old is not an answer to who asks now.
  if (question && now - question->asked_at_ > longest_join) {
    question->outdated_ = true;
    question = nullptr;
  }
  const bool is_first = !question;
  if (is_first) question = std::make_shared<Question>(std::move(key), now);
  return {.remembered = std::nullopt, .question = question, .is_first = is_first};
}

void Admissions::described(const std::shared_ptr<Question>& question, Result<origin::ImageInfo> answer) {
  const std::lock_guard lock(mutex_);
  if (question->described_) return;  // given up
  question->described_ = std::move(answer);
  settle(question);
}

void Admissions::authorized(const std::shared_ptr<Question>& question, Result<void> answer) {
  const std::lock_guard lock(mutex_);
  if (question->authorized_) return;
  question->authorized_ = std::move(answer);
  settle(question);
}

void Admissions::settle(const std::shared_ptr<Question>& question) {
  const auto both = answer_now(*question);
  if (!both) return;
  if (!question->outdated_) {
    asking_.erase(question->key());
    // What may change without our seeing it (an image on its way to active) is not worth remembering.
    if (*both && memory_.count() > 0 && max_entries_ > 0 && (*both)->status == "active") {
      by_use_.push_front({.key = question->key(), .info = **both, .asked_at = question->asked_at_});
      yes_[question->key()] = by_use_.begin();
      if (by_use_.size() > max_entries_) forget_from(yes_.find(by_use_.back().key));
    }
  }
  question->answered().notify();
}

std::optional<Result<origin::ImageInfo>> Admissions::answer_now(const Question& question) const {
  if (!question.described_ || !question.authorized_) return std::nullopt;
  const auto& described = *question.described_;
  const auto& authorized = *question.authorized_;
  if (authorized) return described;
  // Of an image that is not active the origin's answer may mean nothing, and no byte of it is served from here.
  if (described && described->status != "active" && !is_a_no(authorized.error())) return described;
  if (described || (is_a_no(authorized.error()) && !is_a_no(described.error())))
    return std::unexpected(authorized.error());
  return described;
}

std::optional<Result<origin::ImageInfo>> Admissions::answer(const Question& question) const {
  const std::lock_guard lock(mutex_);
  return answer_now(question);
}

void Admissions::give_up(const Error& error) {
  const std::lock_guard lock(mutex_);
  for (auto& [key, question] : asking_) {
    question->outdated_ = true;
    question->described_ = std::unexpected(error);
    question->authorized_ = std::unexpected(error);
    question->answered().notify();
  }
  asking_.clear();
}

void Admissions::forget(const std::string& image_id) {
  const std::lock_guard lock(mutex_);
  const Key first{.image_id = image_id, .caller = ""};
  for (auto entry = yes_.lower_bound(first); entry != yes_.end() && entry->first.image_id == image_id;)
    forget_from(entry++);
  for (auto entry = asking_.lower_bound(first); entry != asking_.end() && entry->first.image_id == image_id;) {
    entry->second->outdated_ = true;
    entry = asking_.erase(entry);
  }
}

void Admissions::forget_all() {
  const std::lock_guard lock(mutex_);
  yes_.clear();
  by_use_.clear();
  for (auto& [key, question] : asking_) question->outdated_ = true;
  asking_.clear();
}

std::size_t Admissions::remembered() const {
  const std::lock_guard lock(mutex_);
  return yes_.size();
}

void Admissions::forget_from(std::map<Key, std::list<Yes>::iterator>::iterator entry) {
  by_use_.erase(entry->second);
  yes_.erase(entry);
}

}  // namespace imagecache::image_cache
