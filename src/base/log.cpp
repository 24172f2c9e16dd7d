#include "base/log.hpp"

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <memory>
#include <mutex>

namespace imagecache::base::log {
namespace {

// "%l" of spdlog is lower case; oslo.log writes DEBUG, INFO, WARNING, ERROR, so the level's name is part of our
// payload.
constexpr auto pattern = "%Y-%m-%d %H:%M:%S.%e %P %v";

struct State {
  std::mutex mutex;
  std::string log_file;
  std::shared_ptr<spdlog::logger> logger = make(nullptr);
  std::atomic<Level> level = Level::warning;

  static std::shared_ptr<spdlog::logger> make(spdlog::sink_ptr sink) {
    if (!sink) sink = std::make_shared<spdlog::sinks::stderr_sink_mt>();
    auto logger = std::make_shared<spdlog::logger>("imagecache", std::move(sink));
    logger->set_pattern(pattern);
    logger->set_level(spdlog::level::trace);
    logger->flush_on(spdlog::level::trace);
    return logger;
  }
};

State& state() {
  static State the_log;
  return the_log;
}

std::string_view name_of(Level level) {
  switch (level) {
    case Level::debug:
      return "DEBUG";
    case Level::info:
      return "INFO";
    case Level::warning:
      return "WARNING";
    case Level::error:
      return "ERROR";
  }
  return "ERROR";
}

Result<void> open_log_file(State& log) {
  try {
    log.logger = State::make(std::make_shared<spdlog::sinks::basic_file_sink_mt>(log.log_file));
  } catch (const spdlog::spdlog_ex& problem) {
    return fail(Errc::invalid_argument, log.log_file + ": cannot write the log: " + problem.what());
  }
  return {};
}

}  // namespace

Result<void> setup(const Options& options) {
  State& log = state();
  const std::lock_guard lock(log.mutex);
  log.level = options.level;
  log.log_file = options.log_file;
  if (log.log_file.empty()) return {};
  return open_log_file(log);
}

Result<void> reopen() {
  State& log = state();
  const std::lock_guard lock(log.mutex);
  if (log.log_file.empty()) return {};
  return open_log_file(log);
}

bool enabled(Level level) {
  return level >= state().level.load(std::memory_order_relaxed);
}

void write(Level level, std::string_view room, const RequestContext* context, std::string_view message) {
  State& log = state();
  std::shared_ptr<spdlog::logger> logger;
  {
    const std::lock_guard lock(log.mutex);
    logger = log.logger;
  }
  const std::string who =
      context ? fmt::format("[{} {} {}]", context->request_id, context->user_id.empty() ? "-" : context->user_id,
                            context->project_id.empty() ? "-" : context->project_id)
              : std::string("[-]");
  // One line a message: what a client or an origin put into it must not forge another.
  std::string line = fmt::format("{} imagecache.{} {} {}", name_of(level), room, who, message);
  for (char& c : line) {
    if (c == '\n' || c == '\r') c = ' ';
  }
  logger->info("{}", line);
}

}  // namespace imagecache::base::log
