# escape=`
FROM mcr.microsoft.com/windows/servercore:ltsc2022
SHELL ["powershell", "-Command", "$ErrorActionPreference = 'Stop';"]
WORKDIR C:\app
COPY requirements.txt .
RUN python -m pip install `
      -r requirements.txt; `
    Remove-Item requirements.txt
