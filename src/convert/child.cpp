#include "convert/child.hpp"

#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>

#include "base/fd.hpp"
#include "base/text.hpp"
#include "base/try.hpp"

namespace imagecache::convert {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::size_t output_limit_bytes = 4096;

Result<std::string> find_program(const std::string& program) {
  const auto missing = [&] {
    return fail(Errc::not_found, program + ": no such program; install qemu-utils or set its path");
  };
  if (program.find('/') != program.npos) {
    if (::access(program.c_str(), X_OK) == 0) return program;
    return missing();
  }
  const char* const path = std::getenv("PATH");
  for (const std::string& directory : base::split(path ? path : "/usr/bin:/bin", ':')) {
    std::string candidate = directory + "/" + program;
    if (!directory.empty() && ::access(candidate.c_str(), X_OK) == 0) return candidate;
  }
  return missing();
}

void limit(decltype(RLIMIT_CPU) resource, std::uint64_t value) {
  const struct rlimit both{value, value};
  ::setrlimit(resource, &both);
}

// Between fork and exec in a process with threads: nothing here may allocate or take a lock.
[[noreturn]] void become(const ChildSpec& spec, const char* path, char* const* arguments, const std::vector<int>& high,
                         int output, int null, pid_t parent) {
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(126);  // The parent went before the line above.
  ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  for (const int number : {SIGPIPE, SIGXFSZ, SIGXCPU, SIGTERM, SIGINT, SIGHUP, SIGCHLD}) ::signal(number, SIG_DFL);
  ::dup2(null, 0);
  ::dup2(output, 1);
  ::dup2(output, 2);
  int next = 3;
  for (const int fd : high) ::dup2(fd, next++);
  ::close_range(static_cast<unsigned>(next), ~0U, 0);
  limit(RLIMIT_CORE, 0);
  if (spec.cpu_limit_s != 0) limit(RLIMIT_CPU, spec.cpu_limit_s);
  if (spec.address_space_limit_bytes != 0) limit(RLIMIT_AS, spec.address_space_limit_bytes);
  if (spec.file_size_limit_bytes != 0) limit(RLIMIT_FSIZE, spec.file_size_limit_bytes);
  char locale[] = "LC_ALL=C";
  char* const environment[] = {locale, nullptr};
  ::execve(path, arguments, environment);
  ::_exit(127);
}

// Kills and reaps what is still there when it goes.
class Child {
 public:
  explicit Child(pid_t pid) : pid_(pid) { ::setpgid(pid, pid); }
  ~Child() {
    if (pid_ < 0) return;
    ::kill(-pid_, SIGKILL);
    ::kill(pid_, SIGKILL);
    wait();
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  int wait() {
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
    return status;
  }

 private:
  pid_t pid_;
};

// Keeps the beginning and drops the rest, so that a child that talks without end still ends. False at the end.
bool drain(int fd, std::string& output) {
  std::array<char, 4096> buffer{};
  const ssize_t n = ::read(fd, buffer.data(), buffer.size());
  if (n < 0) return errno == EAGAIN || errno == EINTR;
  output.append(buffer.data(), std::min(static_cast<std::size_t>(n), output_limit_bytes - output.size()));
  return n > 0;
}

}  // namespace

Result<ChildResult> run_child(const ChildSpec& spec, std::stop_token stop) {
  IMAGECACHE_TRY(const std::string path, find_program(spec.program));
  std::vector<char*> arguments;
  std::string name = spec.program;
  std::vector<std::string> copies = spec.arguments;
  arguments.push_back(name.data());
  for (std::string& argument : copies) arguments.push_back(argument.data());
  arguments.push_back(nullptr);

  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return base::fail_errno(spec.program, errno);
  const base::Fd output(ends[0]);
  // The child's numbers 0, 1, 2, 3… are made by dup2, so its sources must lie above all of them.
  const int above = 3 + static_cast<int>(spec.descriptors.size());
  base::Fd child_output(::fcntl(ends[1], F_DUPFD_CLOEXEC, above));
  ::close(ends[1]);
  IMAGECACHE_TRY(const base::Fd low_null, base::open_file("/dev/null", O_RDONLY));
  base::Fd null(::fcntl(low_null.get(), F_DUPFD_CLOEXEC, above));
  const base::Fd stopped(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!child_output || !null || !stopped) return base::fail_errno(spec.program, errno);
  ::fcntl(output.get(), F_SETFL, O_NONBLOCK);
  std::vector<base::Fd> owned;
  std::vector<int> high;
  for (const int fd : spec.descriptors) {
    owned.emplace_back(::fcntl(fd, F_DUPFD_CLOEXEC, above));
    if (!owned.back()) return base::fail_errno(spec.program, errno);
    high.push_back(owned.back().get());
  }

  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) return base::fail_errno(spec.program + ": cannot be started", errno);
  if (pid == 0) become(spec, path.c_str(), arguments.data(), high, child_output.get(), null.get(), parent);
  Child child(pid);
  child_output.reset();
  // Not pidfd_open(): the header of glibc 2.36 cannot be used from C++.
  const base::Fd ended(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!ended) return base::fail_errno(spec.program + ": cannot be watched", errno);

  const std::stop_callback on_stop(stop, [&stopped] {
    const std::uint64_t one = 1;
    static_cast<void>(::write(stopped.get(), &one, sizeof one));
  });
  const auto deadline = Clock::now() + spec.timeout;
  ChildResult result;
  bool open = true;
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
    if (left <= 0) return fail(Errc::timeout, spec.program + ": was killed, it took too long");
    std::array<struct pollfd, 3> wait = {
        {{ended.get(), POLLIN, 0}, {stopped.get(), POLLIN, 0}, {open ? output.get() : -1, POLLIN, 0}}};
    const int ready = ::poll(wait.data(), wait.size(), static_cast<int>(std::min<std::int64_t>(left, 3'600'000)));
    if (ready < 0 && errno != EINTR) return base::fail_errno(spec.program, errno);
    if (ready <= 0) continue;
    if (wait[1].revents != 0) return fail(Errc::cancelled, spec.program + ": was killed, the conversion was stopped");
    if (wait[2].revents != 0) open = drain(output.get(), result.output);
    if (wait[0].revents != 0) break;
  }
  const int status = child.wait();
  while (open && result.output.size() < output_limit_bytes) {
    const std::size_t before = result.output.size();
    open = drain(output.get(), result.output) && result.output.size() != before;
  }
  if (WIFSIGNALED(status)) result.signal = WTERMSIG(status);
  if (WIFEXITED(status)) result.exit_status = WEXITSTATUS(status);
  return result;
}

}  // namespace imagecache::convert
