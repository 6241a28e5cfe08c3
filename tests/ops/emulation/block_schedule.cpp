#include "block_schedule.h"

#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <stdexcept>
#include <string>
#include <vector>

#include "memory_shadow.h"

namespace cuda_on_cpu {
namespace {

constexpr size_t kStackBytes = 128 * 1024;
// As float or double it is no number; as an integer it is large.
constexpr uint32_t kPoison = 0x7FF4A5A5u;
// In random schedules, of so many loads and stores one is waited before.
constexpr uint64_t kUsesBetweenStops = 16;

enum class State : uint8_t { kRuns, kWaitsForWarp, kWaitsForBlock, kDone };

struct Fiber {
  jmp_buf place;  // where it waits
  bool is_started = false;
  State state = State::kDone;
  Site site{};
  unsigned mask = 0;
  bool orders_memory = false;
  uint64_t value = 0;  // what it shows
};

// All fibers' stacks, each with a page before it that may not be touched.
class Stacks {
 public:
  Stacks() {
    void* memory = mmap(nullptr, kMaxThreads * kStackBytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
      throw std::runtime_error("cuda_on_cpu: no memory for stacks");
    }
    first_ = static_cast<char*>(memory);
    for (unsigned i = 0; i < kMaxThreads; ++i) {
      mprotect(first_ + i * kStackBytes, page_, PROT_NONE);
    }
  }
  ~Stacks() { munmap(first_, kMaxThreads * kStackBytes); }
  Stacks(const Stacks&) = delete;
  Stacks& operator=(const Stacks&) = delete;

  void* of(unsigned i) const { return first_ + i * kStackBytes + page_; }
  size_t bytes() const { return kStackBytes - page_; }
  bool hold(const void* address) const {
    const char* byte = static_cast<const char*>(address);
    return byte >= first_ && byte < first_ + kMaxThreads * kStackBytes;
  }

 private:
  const size_t page_ = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  char* first_;
};

// Which of the threads or blocks that can go on does.
class Schedule {
 public:
  Schedule() = default;
  // The launch's name and size vary the random numbers.
  Schedule(const char* text, const std::string& launch) {
    is_reversed_ = text != nullptr && std::strcmp(text, "reversed") == 0;
    is_random_ = text != nullptr && *text != '\0' && !is_reversed_;
    if (is_random_) {
      state_ = std::strtoull(text, nullptr, 10) * 2 + 1;
      state_ ^= std::hash<std::string>()(launch) << 1;
    }
  }

  bool is_random() const { return is_random_; }

  uint64_t random(uint64_t count) {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return (state_ >> 11) % count;
  }

  void begin_block() {
    // From threads that go on evenly to one that goes as far as it can.
    constexpr unsigned kBiases[] = {0, 8, 15};
    bias_ = is_random_ ? kBiases[random(3)] : 0;
  }

  // The numbers from first to last - 1 in the order in which they can go on.
  template <typename list_t>
  void add(list_t& list, uint64_t first, uint64_t last) {
    const auto added = static_cast<std::ptrdiff_t>(list.size());
    for (uint64_t i = first; i < last; ++i) {
      list.push_back(is_reversed_ ? first + last - 1 - i : i);
    }
    for (auto i = static_cast<uint64_t>(added) + 1; is_random_ && i < list.size(); ++i) {
      std::swap(list[i], list[added + random(i + 1 - added)]);
    }
  }

  unsigned take(std::deque<unsigned>& list) {
    if (!is_random_) {
      const unsigned first = list.front();
      list.pop_front();
      return first;
    }
    if (random(16) >= bias_) {
      std::swap(list[random(list.size())], list.back());
    }
    const unsigned last = list.back();
    list.pop_back();
    return last;
  }

 private:
  bool is_reversed_ = false, is_random_ = false;
  uint64_t state_ = 1;
  unsigned bias_ = 0;
};

// Kept from block to block.
struct Block {
  Stacks stacks;
  Fiber fibers[kMaxThreads];
  jmp_buf scheduler;
  bool is_in_kernel = false;  // and not in what the kernel calls here
  unsigned current = 0, size = 0;
  unsigned num_live = 0, num_waiting = 0;  // for the block
  unsigned warp_live[kMaxThreads / kWarp], warp_waiting[kMaxThreads / kWarp];
  std::deque<unsigned> can_run;
  Schedule schedule;
  std::string kernel;
  const std::function<void()>* body = nullptr;
  std::vector<uint64_t> dynamic_shared;
  size_t dynamic_bytes = 0;
  std::vector<void*> poisoned;  // shared memory of this block so far
};

Block& block() {
  static Block only;
  return only;
}

void stop(State state) {
  Fiber& own = block().fibers[block().current];
  own.state = state;
  if (_setjmp(own.place) == 0) {
    _longjmp(block().scheduler, 1);
  }
}

// Never returns: after one block's thread it waits to be one of the next block.
void run_fiber() {
  while (true) {
    (*block().body)();
    stop(State::kDone);
  }
}

void start(unsigned i) {
  block().fibers[i].is_started = true;
  ucontext_t context;
  getcontext(&context);
  context.uc_stack.ss_sp = block().stacks.of(i);
  context.uc_stack.ss_size = block().stacks.bytes();
  context.uc_link = nullptr;
  makecontext(&context, run_fiber, 0);
  setcontext(&context);
}

void resume(unsigned i) {
  Block& own = block();
  own.current = i;
  threadIdx = dim3(i % blockDim.x, i / blockDim.x % blockDim.y, i / (blockDim.x * blockDim.y));
  // Jumps between stacks: unlike swapcontext they need no system call.
  if (_setjmp(own.scheduler) == 0) {
    own.is_in_kernel = true;
    if (own.fibers[i].is_started) {
      _longjmp(own.fibers[i].place, 1);
    }
    start(i);
  }
  block().is_in_kernel = false;
}

std::string describe(unsigned i) {
  const Fiber& fiber = block().fibers[i];
  const std::string thread = "thread " + std::to_string(i);
  if (fiber.state == State::kDone) {
    return thread + " has ended";
  }
  const char* whom =
      fiber.state == State::kWaitsForBlock ? " waits for its block at " : " waits for its warp at ";
  return thread + whom + fiber.site.file + ":" + std::to_string(fiber.site.line);
}

[[noreturn]] void refuse(unsigned one, unsigned other) {
  throw std::runtime_error("cuda_on_cpu: " + block().kernel + ": in block " +
                           std::to_string(blockIdx.x) + " " + describe(one) + ", " +
                           describe(other));
}

bool is_same(const Site& a, const Site& b) {
  return a.line == b.line && std::strcmp(a.file, b.file) == 0;
}

// Lets the threads first .. last - 1 go on, which all wait alike or have ended.
void release(unsigned first, unsigned last, State waiting) {
  Block& own = block();
  unsigned one = first;
  while (own.fibers[one].state != waiting) {
    ++one;
  }
  for (unsigned i = first; i < last; ++i) {
    const Fiber& fiber = own.fibers[i];
    const bool is_named =
        waiting == State::kWaitsForBlock || own.fibers[one].mask >> (i - first) & 1;
    // A warp's wait leaves out lanes that have ended; one of the block is for all threads.
    if (fiber.state == State::kDone ? waiting == State::kWaitsForBlock
                                    : !is_named || !is_same(fiber.site, own.fibers[one].site)) {
      refuse(one, i);
    }
  }
  std::vector<unsigned> order;
  own.schedule.add(order, first, last);
  for (const unsigned i : order) {
    if (own.fibers[i].state == waiting) {
      own.fibers[i].state = State::kRuns;
      own.can_run.push_back(i);
    }
  }
}

// After thread i has stopped: who can go on now?
void settle(unsigned i) {
  Block& own = block();
  const unsigned warp = i / kWarp;
  switch (own.fibers[i].state) {
    case State::kRuns:
      own.can_run.push_back(i);
      return;
    case State::kDone:
      --own.num_live;
      --own.warp_live[warp];
      break;
    case State::kWaitsForBlock:
      ++own.num_waiting;
      break;
    case State::kWaitsForWarp:
      ++own.warp_waiting[warp];
      break;
  }
  if (own.warp_waiting[warp] > 0 && own.warp_waiting[warp] == own.warp_live[warp]) {
    own.warp_waiting[warp] = 0;
    if (own.fibers[i].state == State::kWaitsForWarp && own.fibers[i].orders_memory) {
      shadow::order_warp(warp);
    }
    release(warp * kWarp, std::min((warp + 1) * kWarp, own.size), State::kWaitsForWarp);
  }
  if (own.num_waiting > 0 && own.num_waiting == own.num_live) {
    own.num_waiting = 0;
    shadow::order_block();
    release(0, own.size, State::kWaitsForBlock);
  }
}

void run_block() {
  Block& own = block();
  own.num_live = own.size;
  own.num_waiting = 0;
  own.poisoned.clear();
  own.can_run.clear();
  own.schedule.begin_block();
  own.schedule.add(own.can_run, 0, own.size);
  for (unsigned first = 0; first < own.size; first += kWarp) {
    own.warp_live[first / kWarp] = std::min(kWarp, own.size - first);
    own.warp_waiting[first / kWarp] = 0;
  }
  for (unsigned i = 0; i < own.size; ++i) {
    own.fibers[i].state = State::kRuns;
  }
  while (!own.can_run.empty()) {
    const unsigned i = own.schedule.take(own.can_run);
    resume(i);
    settle(i);
  }
  if (own.num_live > 0) {
    // Some wait for their block, some, or those that have ended, do not.
    unsigned one = 0, other = 0;
    while (own.fibers[one].state == State::kDone) {
      ++one;
    }
    while (other + 1 < own.size && own.fibers[other].state == own.fibers[one].state) {
      ++other;
    }
    refuse(one, other);
  }
}

// Threads that wait for what never comes are left where they are: their stacks are used anew.
void abandon_block() {
  for (Fiber& fiber : block().fibers) {
    fiber.is_started = fiber.is_started && fiber.state == State::kDone;
  }
}

}  // namespace

void run_grid(const char* kernel, dim3 grid, dim3 threads, size_t shared_bytes,
              const std::function<void()>& body) {
  Block& own = block();
  own.kernel = kernel;
  own.size = threads.x * threads.y * threads.z;
  if (own.size == 0 || own.size > kMaxThreads) {
    throw std::runtime_error("cuda_on_cpu: " + own.kernel +
                             ": blocks have 1 to 1024 threads, got " + std::to_string(own.size));
  }
  gridDim = grid;
  blockDim = threads;
  own.body = &body;
  own.dynamic_bytes = shared_bytes;
  own.dynamic_shared.resize((shared_bytes + sizeof(uint64_t) - 1) / sizeof(uint64_t));
  const uint64_t num_blocks = uint64_t(grid.x) * grid.y * grid.z;
  own.schedule =
      Schedule(std::getenv("CUDA_ON_CPU_SCHEDULE"),
               own.kernel + " " + std::to_string(num_blocks) + " " + std::to_string(own.size));
  shadow::begin_launch(kernel);
  std::vector<uint64_t> order;
  own.schedule.add(order, 0, num_blocks);
  for (const uint64_t i : order) {
    blockIdx = dim3(i % grid.x, i / grid.x % grid.y, i / (uint64_t(grid.x) * grid.y));
    shadow::begin_block(static_cast<uint32_t>(i));
    try {
      run_block();
    } catch (const std::runtime_error&) {
      abandon_block();
      throw;
    }
  }
}

void wait_for_block(Site site) {
  block().fibers[block().current].site = site;
  stop(State::kWaitsForBlock);
}

void wait_for_warp(unsigned mask, bool orders_memory, Site site) {
  Fiber& own = block().fibers[block().current];
  own.site = site;
  own.mask = mask;
  own.orders_memory = orders_memory;
  stop(State::kWaitsForWarp);
}

void show(uint64_t bits) { block().fibers[block().current].value = bits; }

uint64_t shown_by(unsigned lane) {
  const unsigned other = block().current / kWarp * kWarp + lane;
  const bool is_live = other < block().size && block().fibers[other].state != State::kDone;
  return is_live ? block().fibers[other].value : uint64_t(kPoison) << 32 | kPoison;
}

unsigned count_of_block() {
  unsigned count = 0;
  for (unsigned i = 0; i < block().size; ++i) {
    count += block().fibers[i].value != 0;
  }
  return count;
}

unsigned lanes_of_warp() {
  const unsigned first = block().current / kWarp * kWarp;
  unsigned lanes = 0;
  for (unsigned i = first; i < std::min(first + kWarp, block().size); ++i) {
    const Fiber& fiber = block().fibers[i];
    lanes |= unsigned(fiber.state != State::kDone && fiber.value != 0) << (i - first);
  }
  return lanes;
}

unsigned lane() { return block().current % kWarp; }

void declare_shared(const char* name, void* address, size_t bytes) {
  std::vector<void*>& poisoned = block().poisoned;
  if (std::find(poisoned.begin(), poisoned.end(), address) != poisoned.end()) {
    return;
  }
  poisoned.push_back(address);
  for (size_t i = 0; i < bytes; i += sizeof(kPoison)) {
    std::memcpy(static_cast<char*>(address) + i, &kPoison, std::min(bytes - i, sizeof(kPoison)));
  }
  shadow::add_shared(name, address, bytes);
}

void* dynamic_shared(const char* name) {
  void* address = block().dynamic_shared.data();
  declare_shared(name, address, block().dynamic_bytes);
  return address;
}

void before_use(const void* address, size_t bytes, Use use, const void* code) {
  Block& own = block();
  if (!own.is_in_kernel || own.stacks.hold(address)) {
    return;
  }
  if (own.schedule.is_random() && own.schedule.random(kUsesBetweenStops) == 0) {
    stop(State::kRuns);
  }
  if (shadow::is_on()) {
    own.is_in_kernel = false;
    shadow::remember(own.current, address, bytes, use, code);
    own.is_in_kernel = true;
  }
}

void before_atomic(const void* address, size_t bytes) {
  before_use(address, bytes, Use::kAtomic, __builtin_return_address(0));
}

}  // namespace cuda_on_cpu
