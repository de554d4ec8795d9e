-- Health of a serin.dev AnalysisRun.
local status = obj.status or {}
local words = {
  Running = "Progressing",
  Successful = "Healthy",
  Failed = "Degraded",
  -- A person is asked.
  Inconclusive = "Suspended",
  -- It was not needed any more.
  Terminated = "Healthy",
}
if status.phase == nil then
  return { status = "Progressing", message = "nothing was measured yet" }
end
return {
  status = words[status.phase] or "Unknown",
  message = status.message or "",
}
