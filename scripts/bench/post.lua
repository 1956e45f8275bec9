-- wrk posts the files of $BODIES (paths joined by colons), one after the other if there are several;
-- $CONTENT_TYPE is theirs, $JSON_LENGTH the length of their JSON part if raw data follows. $PATHS, joined
-- by colons, are asked in turn where there are any, in place of the URL's own. $API_KEY goes with each.
local bodies = {}
for path in string.gmatch(os.getenv("BODIES"), "[^:]+") do
  local file = io.open(path, "rb")
  bodies[#bodies + 1] = file:read("*a")
  file:close()
end
local paths = {}
for path in string.gmatch(os.getenv("PATHS") or "", "[^:]+") do
  paths[#paths + 1] = path
end
wrk.method = "POST"
wrk.body = bodies[1]
wrk.headers["Content-Type"] = os.getenv("CONTENT_TYPE")
if os.getenv("JSON_LENGTH") then
  wrk.headers["Inference-Header-Content-Length"] = os.getenv("JSON_LENGTH")
end
if os.getenv("API_KEY") then
  wrk.headers["X-API-Key"] = os.getenv("API_KEY")
end
if #bodies > 1 or #paths > 0 then
  local requests, turn = {}, 0
  init = function()
    for index = 1, math.max(#bodies, #paths) do
      local path = #paths > 0 and paths[(index - 1) % #paths + 1] or nil
      requests[index] = wrk.format(nil, path, nil, bodies[(index - 1) % #bodies + 1])
    end
  end
  request = function()
    turn = turn % #requests + 1
    return requests[turn]
  end
end
