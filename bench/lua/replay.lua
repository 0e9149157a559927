-- Sends requests of a plan, each chosen at random and with fresh UUIDs (version 4) in its gaps, and prints one line of
-- JSON.    wrk … -s replay.lua http://127.0.0.1:8000 -- PLAN [created]
-- A plan is whole HTTP requests with a record separator between them. With `created`, answers 201 are counted too; what
-- comes after it are milliseconds that each connection pauses before a request.

local GAP = "00000000-0000-4000-8000-000000000000"
local SEPARATOR = "\30"
local threads = {}

local function split(text, mark)
   local parts, from = {}, 1
   while true do
      local first, last = text:find(mark, from, true)
      if not first then break end
      parts[#parts + 1] = text:sub(from, first - 1)
      from = last + 1
   end
   parts[#parts + 1] = text:sub(from)
   return parts
end

local function sow()
   local random = assert(io.open("/dev/urandom", "rb"))
   local a, b, c, d, e, f = random:read(6):byte(1, 6)
   random:close()
   math.randomseed(((((a * 256 + b) * 256 + c) * 256 + d) * 256 + e) * 256 + f)
end

local function uuid()
   return ("%08x-%04x-4%03x-%04x-%04x%08x"):format(
      math.random(0, 0xffffffff), math.random(0, 0xffff), math.random(0, 0xfff), math.random(0x8000, 0xbfff),
      math.random(0, 0xffff), math.random(0, 0xffffffff))
end

function setup(thread)
   threads[#threads + 1] = thread
end

function init(args)
   local file = assert(io.open(args[1], "rb"))
   plan = split(file:read("*a"), SEPARATOR)
   file:close()
   for place, text in ipairs(plan) do plan[place] = split(text, GAP) end
   created = 0
   if args[2] == "created" then  -- wrk takes answers apart only for who asks
      function response(status)
         if status == 201 then created = created + 1 end
      end
   end
   local pause = tonumber(args[3])
   if pause then
      function delay() return pause end  -- milliseconds between the requests of a connection
   end
   sow()
end

function request()
   local parts = plan[math.random(#plan)]
   local filled = {parts[1]}
   for place = 2, #parts do
      filled[#filled + 1] = uuid()
      filled[#filled + 1] = parts[place]
   end
   return table.concat(filled)
end

function done(summary, latency)
   local made = 0
   for _, thread in ipairs(threads) do made = made + thread:get("created") end
   local errors = summary.errors
   print(('{"requests": %d, "seconds": %.6f, "p50": %.0f, "p99": %.0f, "refused": %d, "broken": %d, "created": %d}')
      :format(summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(99),
         errors.status, errors.connect + errors.read + errors.write + errors.timeout, made))
end
