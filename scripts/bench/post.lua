-- wrk posts the files of $BODIES (paths joined by colons), one after the other if there are several;
-- $CONTENT_TYPE is theirs, $JSON_LENGTH the length of their JSON part if raw data follows.
local bodies = {}
for path in string.gmatch(os.getenv("BODIES"), "[^:]+") do
  local file = io.open(path, "rb")
  bodies[#bodies + 1] = file:read("*a")
  file:close()
end
wrk.method = "POST"
wrk.body = bodies[1]
wrk.headers["Content-Type"] = os.getenv("CONTENT_TYPE")
if os.getenv("JSON_LENGTH") then
  wrk.headers["Inference-Header-Content-Length"] = os.getenv("JSON_LENGTH")
end
if #bodies > 1 then
  local requests, turn = {}, 0
  init = function()
    for index, body in ipairs(bodies) do
      requests[index] = wrk.format(nil, nil, nil, body)
    end
  end
  request = function()
    turn = turn % #requests + 1
    return requests[turn]
  end
end
